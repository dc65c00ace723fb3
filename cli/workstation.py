"""The workstation's verb train. It needs the extra of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.options import JsonOption
from limen.cli.output import note, percent, print_table, progress_bar, say, say_json

if TYPE_CHECKING:
    from limen.train.recipe import Recipe
    from limen.train.trainer import Progress, Trainer


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(train)


def train(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or a shipped recipe's name.")],
    data: Annotated[
        Path,
        typer.Option(help="Folder of pictures by identity, or crop archives; labels for a finder."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the log.")] = Path(
        "runs/last"
    ),
    slim_from: Annotated[
        Path | None, typer.Option(help="Warm start: an ONNX MobileNetV1 to slim, such as SFace.")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(help="Warm start: a checkpoint's averaged weights.")
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(help="Archives of nobody known, with teachers.npz; may be repeated."),
    ] = None,
    leave_out: Annotated[
        Path | None,
        typer.Option(help="For a finder: names of pictures never to be used, one a line."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from --out's last checkpoint.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the network; all cores.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Threads that decode and augment; half the cores."),
    ] = None,
    devices: Annotated[
        int,
        typer.Option(min=1, max=256, help="Processes on this machine; torchrun sets its own."),
    ] = 1,
    preview: Annotated[
        Path | None, typer.Option(help="Write a PNG of augmented pictures, and train nothing.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train an embedder or a face finder, as the recipe says."""
    from limen.train.recipe import is_finder_recipe, load_recipe

    if is_finder_recipe(recipe):
        from limen.cli.finder import train_finder
        from limen.errors import ConfigError

        if slim_from or unlabelled or preview:
            raise ConfigError(
                "--slim-from, --unlabelled and --preview are for embedders; this is a finder's "
                "recipe: leave them out"
            )
        train_finder(recipe, data, out, leave_out, init_from, resume, threads, workers, json)
        return
    if preview is not None:
        _preview(load_recipe(recipe), data, preview)
        return
    from limen.cli.extras import needs_extra

    with needs_extra("train", "torch", "pytorch_metric_learning"):
        from limen.train.allocator import restart_with_fast_allocator
        from limen.train.run import start_training

    restart_with_fast_allocator()
    loaded = load_recipe(recipe)
    trainer = start_training(
        loaded,
        data,
        out,
        slim_from=slim_from,
        init_from=init_from,
        unlabelled=unlabelled or (),
        resume=resume,
        threads=threads,
        workers=workers,
        devices=devices,
    )
    if not trainer.leads:  # another process of the same run writes, and talks to the user
        trainer.run()
        return
    if not json:
        note(trainer.summary())
    with progress_bar("training", loaded.total_steps) as bar:

        def show(progress: Progress) -> None:
            validation = progress.validation.get("fnmr_at_fmr_1e-3")
            info = f"{progress.stage} · loss {progress.loss:.3f} · {progress.pictures_per_second:.0f}/s"
            if "--workers" in progress.bound:
                info += " (waiting for batches)"
            if validation is not None:
                info += f" · FNMR at FMR 1e-3 {percent(validation, 1)}"
            bar.update(0, completed=progress.step, info=info)  # type: ignore[arg-type]

        result = trainer.run(show)
    _tell_end(trainer, out, data, result, json)
    if trainer.interrupted_by is not None:
        raise typer.Exit(128 + trainer.interrupted_by)


def _tell_end(
    trainer: Trainer, out: Path, data: Path, result: dict[str, float], json: bool
) -> None:
    watch, last, best = trainer.stopwatch, out / "last.pt", out / "best.pt"
    if watch.pictures_per_second > 0:
        note(watch.summary())
    if trainer.interrupted_by is not None:
        note(
            f"stopped by {trainer.interrupted_by.name} after step {trainer.step:,}; "
            f"the same command with --resume goes on from {last}"
        )
    if trainer.stopped_early:
        note(
            f"stopped early: no better on 'choose' since {trainer.validations_since_best} validations"
        )
    if json:
        say_json(
            {
                "checkpoint": str(last),
                "best": str(best) if best.exists() else None,
                "step": trainer.step,
                "stopped_early": trainer.stopped_early,
                "interrupted_by": trainer.interrupted_by.name if trainer.interrupted_by else None,
                "pictures_per_second": round(watch.pictures_per_second, 1),
                "waiting_share": round(watch.waiting_share, 3),
                **result,
            }
        )
        return
    say(f"checkpoint: {last}" + (f"; the best on 'choose': {best}" if best.exists() else ""))
    if result:
        print_table(
            "validation on 'choose', all pairs",
            ["figure", "value"],
            [
                ["FNMR at FMR 1e-2", percent(result["fnmr_at_fmr_1e-2"])],
                ["FNMR at FMR 1e-3", percent(result["fnmr_at_fmr_1e-3"])],
                ["EER", percent(result["eer"])],
                [
                    "mated, non-mated comparisons",
                    f"{result['mated_comparisons']:.0f}, {result['non_mated_comparisons']:.0f}",
                ],
                ["identities", f"{result['identities']:.0f}"],
            ],
        )
    if trainer.interrupted_by is None:
        chosen = best if best.exists() else last
        say(f"next: limen export {chosen} --data {data} --out NAME.limen")


def _preview(recipe: Recipe, data: Path, path: Path) -> None:
    from limen.errors import ConfigError
    from limen.train.augmentation.sheet import recipe_sheet, write_png

    if path.suffix.lower() != ".png":
        raise ConfigError(f"--preview writes a PNG file, found '{path.name}': name it FILE.png")
    write_png(path, recipe_sheet(recipe, data))
    say(f"preview: {path}")
