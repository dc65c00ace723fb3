"""Verbs of the face finder: label, and its own kind of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TaskID

from limen.cli.options import JsonOption
from limen.cli.output import note, print_table, progress_bar, say, say_json


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(label)


def label(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    out: Annotated[Path, typer.Option(help="The file of labels, one JSON line a picture.")],
    yunet: Annotated[Path, typer.Option(envvar="LIMEN_YUNET", help="A YuNet ONNX file.")],
    blazeface: Annotated[
        Path, typer.Option(help="MediaPipe's face_detection_full_range_sparse.tflite.")
    ],
    dlib: Annotated[
        Path | None,
        typer.Option(help="dlib's shape_predictor_5_face_landmarks.dat; needs the package dlib."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Label faces for 'limen train finder': where public detectors agree. Goes on where it was."""
    from limen.cli.extras import needs_extra
    from limen.folder import find_pictures

    with needs_extra("tflite", "ai_edge_litert"), needs_extra("label", "dlib"):
        from limen.train.finder.consensus import Consensus, Teachers
        from limen.train.finder.labelling import label_pictures

        consensus = Consensus(Teachers(yunet, blazeface, dlib))
    pictures = find_pictures(paths)
    with progress_bar("labelling", len(pictures)) as bar:
        report = label_pictures(
            pictures, out, consensus.label, lambda done, _: bar.update(TaskID(0), completed=done)
        )
    if json:
        say_json({"labels": str(out), **vars(report)})
        return
    print_table(
        f"labels in {out}",
        ["", "count"],
        [[name.replace("_", " "), f"{count:,}"] for name, count in vars(report).items()],
    )


def train_finder(
    recipe: str,
    labels: Path,
    out: Path,
    leave_out: Path | None,
    init_from: Path | None,
    resume: bool,
    threads: int | None,
    workers: int | None,
    json: bool,
) -> None:
    """What 'limen train' does with a recipe of kind "finder"."""
    from limen.cli.extras import needs_extra

    with needs_extra("train", "torch", "pytorch_metric_learning"):
        from limen.train.allocator import restart_with_fast_allocator
        from limen.train.finder.recipe import load_finder_recipe
        from limen.train.finder.run import read_names, start_finder_training

    restart_with_fast_allocator()
    loaded = load_finder_recipe(recipe)
    if loaded.wants_hard_cases and not resume and not json:
        note("looking for hard cases among the training pictures before the first step")
    left_out: Sequence[str] = sorted(read_names(leave_out)) if leave_out else ()
    trainer = start_finder_training(
        loaded,
        labels,
        out,
        left_out=frozenset(left_out),
        init_from=init_from,
        resume=resume,
        threads=threads,
        workers=workers,
    )
    if not json:
        note(trainer.summary())
    with progress_bar("training", loaded.steps) as bar:
        result = trainer.run(
            lambda progress: bar.update(
                TaskID(0),
                completed=progress.step,
                info=f"loss {progress.loss:.3f} · {progress.pictures_per_second:.0f}/s",
            )
        )
    last, best = out / "last.pt", out / "best.pt"
    if json:
        say_json(
            {
                "checkpoint": str(last),
                "best": str(best) if best.exists() else None,
                "step": trainer.step,
                "interrupted_by": trainer.interrupted_by.name if trainer.interrupted_by else None,
                **result,
            }
        )
    else:
        say(f"checkpoint: {last}" + (f"; the best on scenes held out: {best}" if result else ""))
        if result:
            print_table(
                "validation on scenes of held-out pictures",
                ["figure", "value"],
                [[name.replace("_", " "), f"{value:.4f}"] for name, value in result.items()],
            )
    if trainer.interrupted_by is not None:
        note(
            f"stopped by {trainer.interrupted_by.name} after step {trainer.step:,}; the same "
            f"command with --resume goes on from {last}"
        )
        raise typer.Exit(128 + trainer.interrupted_by)
    if not json:
        say(f"next: limen export EMBEDDER.pt --finder {best if result else last} …")
