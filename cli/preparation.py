"""The verb of the workstation that comes before training: prepare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from limen.cli.options import (
    BundleOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
)
from limen.cli.output import note, print_table, progress_bar, say, say_json


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(prepare)


def prepare(
    folder: Annotated[
        Path, typer.Argument(help="Pictures: IDENTITY/PICTURE, CelebA, a .rec file.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards and the report.")],
    layout: Annotated[
        str, typer.Option(help="auto, folders, lfw, celeba, recordio or flat.")
    ] = "auto",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Folders and labels say nothing about who it is.")
    ] = False,
    teacher: Annotated[
        Path | None, typer.Option(help="SFace's ONNX file; its embeddings are kept to distil from.")
    ] = None,
    aligned: Annotated[
        bool | None,
        typer.Option("--aligned/--not-aligned", help="Pictures are face crops already; by layout."),
    ] = None,
    min_face_px: Annotated[int, typer.Option(min=1, help="Width of the smallest face taken.")] = 40,
    min_quality: Annotated[
        float, typer.Option(min=0, max=1, help="Drop crops of lower quality.")
    ] = 0.0,
    drop_suspects: Annotated[
        bool, typer.Option("--drop-suspects", help="Drop suspected labels, not only report them.")
    ] = False,
    keep_singletons: Annotated[
        bool, typer.Option("--keep-singletons", help="Keep identities with one picture.")
    ] = False,
    hold_out: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of unlabelled pictures for a part of its own."),
    ] = 0.0,
    near_score: Annotated[
        float, typer.Option(min=0, max=1, help="Cosine from which on a picture repeats another.")
    ] = 0.95,
    cohort: Annotated[
        float,
        typer.Option(min=0, max=0.5, help="Share of fit's identities to be a bundle's strangers."),
    ] = 0.0,
    shard_mb: Annotated[float, typer.Option(min=1, help="Size of a shard, in millions.")] = 64.0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes; as many as cores.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a run ended early.")
    ] = False,
    keep_work: Annotated[
        bool,
        typer.Option("--keep-work", help="Keep what other rules can be tried on with --resume."),
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Write an HTML contact sheet; it shows people.")
    ] = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Make training shards of pictures: find, align, judge, drop what repeats, report the rest."""
    from limen.train.prepare.judging import Rules
    from limen.train.prepare.plan import Options
    from limen.train.prepare.preparation import prepare as run

    options = Options(
        folder=folder,
        out=out,
        layout=layout,
        unlabelled=unlabelled,
        aligned=aligned,
        min_face_px=min_face_px,
        rules=Rules(
            min_quality=min_quality,
            drop_suspects=drop_suspects,
            keep_singletons=keep_singletons,
            hold_out=hold_out,
            near_score=near_score,
            cohort=cohort,
        ),
        bundle=bundle,
        runtime=runtime,
        precision=precision,
        yunet=yunet,
        sface=teacher,
        workers=workers or len(os.sched_getaffinity(0)),
        shard_mb=shard_mb,
        resume=resume,
        keep_work=keep_work,
    )
    try:
        with progress_bar("listing", 1) as bar:

            def show(what: str, done: int, total: int, info: str) -> None:
                bar.update(0, description=what, completed=done, total=total or None, info=info)  # type: ignore[arg-type]

            report = run(options, show, sheet)
    except KeyboardInterrupt:
        note(f"what is done is kept in {out}: the same command with --resume goes on")
        raise
    if json:
        say_json(report)
    else:
        _tell(report, out, sheet)


def _tell(report: dict[str, Any], out: Path, sheet: Path | None) -> None:
    from limen.train.prepare.report import DROPPED, REPORT

    rows = [["pictures listed", f"{report['pictures']:,}"]]
    rows += [[f"dropped: {reason}", f"{count:,}"] for reason, count in report["dropped"].items()]
    rows.append(["kept", f"{report['kept']:,}"])
    for name, part in report["parts"].items():
        people = f" of {part['identities']:,} identities" if part["identities"] else ""
        rows.append([f"part '{name}'", f"{part['pictures']:,}{people}"])
    rows += [[f"left out: {reason}", f"{count:,}"] for reason, count in report["left_out"].items()]
    quality = report["quality"]
    rows.append(
        ["quality, 5 %, median, 95 %", " ".join(str(quality[q]) for q in ("p05", "p50", "p95"))]
    )
    for key, title in (
        ("suspected_labels", "suspected labels"),
        ("same_person", "pairs of identities that look like one person"),
        ("same_person_in_two_parts", "… in two parts"),
        ("duplicates_across_identities", "duplicates across identities"),
    ):
        if report["labelled"]:
            rows.append([title, f"{len(report[key]):,}"])
    print_table(f"{out}: layout '{report['layout']}'", ["what", "count"], rows)
    say(f"report: {out / REPORT}; every picture that is not kept: {out / DROPPED}")
    if sheet is not None:
        say(f"contact sheet: {sheet} (it shows people)")
    if not report["labelled"]:
        say(f"next: limen train RECIPE --data FACES --unlabelled {out}")
        return
    missing = [part for part in ("fit", "choose", "report") if part not in report["parts"]]
    if missing:
        note(f"no identity fell into {', '.join(missing)}: there are too few for all parts")
    say(f"next: limen train RECIPE --data {out}")
