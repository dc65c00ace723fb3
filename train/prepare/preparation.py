"""`limen prepare` from end to end: list, make crops, judge, write shards, report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from limen.bundle import open_bundle
from limen.errors import BundleError
from limen.files import write_atomically
from limen.train.prepare.catalogue import Catalogue, read_catalogue
from limen.train.prepare.crops import CropMaker, CropSettings
from limen.train.prepare.judging import Judgement, judge, judge_unlabelled
from limen.train.prepare.plan import PLAN, Options, claimed, finished, make_plan, settle
from limen.train.prepare.production import make_chunks
from limen.train.prepare.report import DROPPED, REPORT, Findings, report_of, write_dropped
from limen.train.prepare.shard_writer import write_shards
from limen.train.prepare.sheet import SHEET_SUFFIXES, write_sheet
from limen.train.prepare.sources import PrepareError, Source, open_source
from limen.train.prepare.suspects import Limits, limits_from_strangers
from limen.train.prepare.teacher import NAME as TEACHER
from limen.train.shard_index import INDEX, ShardIndex, ShardTeacher

# What is being done, how many pictures are through, of how many, and a word on it.
Progress = Callable[[str, int, int, str], None]


def prepare(
    options: Options, progress: Progress = lambda *_: None, sheet: Path | None = None
) -> dict[str, Any]:
    """Prepare `options.folder` into `options.out`, and return the report.

    sheet: an HTML contact sheet to write, with pictures of people in it. A run that ends early, by
    whatever cause, leaves no shard half-written and goes on with `resume`; the shards are those
    of an unbroken run to the byte. PrepareError with what is in the way.
    """
    if sheet is not None and sheet.suffix.lower() not in SHEET_SUFFIXES:
        raise PrepareError(f"--sheet writes an HTML file, found '{sheet.name}': name it FILE.html")
    with claimed(options) as work:
        try:
            return _prepare(options, work, progress, sheet)
        except OSError as error:
            raise PrepareError(
                f"{error.filename or options.out}: cannot be written or read "
                f"({error.strerror or error}). What is done is kept: free some space, then run the "
                "same command with --resume"
            ) from error


def _prepare(
    options: Options, work: Path, progress: Progress, sheet: Path | None
) -> dict[str, Any]:
    progress("listing", 0, 0, "")
    source = open_source(options.folder, options.layout, unlabelled=options.unlabelled)
    labelled = source.labelled and not options.unlabelled
    _check_asked(options, source, labelled)
    settings = CropSettings(
        aligned=source.aligned if options.aligned is None else options.aligned,
        min_face_px=options.min_face_px,
        bundle=options.bundle,
        runtime=options.runtime,
        precision=options.precision,
        yunet=options.yunet,
        sface=options.sface,
    )
    maker = CropMaker(settings, source.reader)  # what is wrong with a model shows here
    plan = make_plan(options, source, maker, aligned=settings.aligned)
    done = finished(options.out, plan) is not None
    if done and sheet is None:
        _clear(work, options)
        return _read_report(options.out)
    if (options.out / INDEX).exists() and not (work / PLAN).exists():
        raise PrepareError(
            f"{options.out} holds {'these shards' if done else 'shards that were made otherwise'}, and "
            "their work is not there any more: name another --out (--keep-work keeps it, for other "
            "rules and for a sheet)"
        )
    settle(work, plan)
    (options.out / INDEX).unlink(missing_ok=True)
    _remove_leftovers(options.out, work)

    def show(done: int, crops: int, found: int) -> None:
        told = f"{crops:,} crops" + (f", {found:,} pictures from before" if found else "")
        progress("finding faces", done, len(source), told)

    make_chunks(source, settings, work, options.chunk, options.workers, show)
    progress("judging", 0, 0, "")
    catalogue = read_catalogue(source, work, options.chunk, labelled=labelled)
    limits, judgement = _judged(options, source, catalogue, labelled)
    findings = Findings(source, catalogue, judgement, limits, labelled)
    _check_kept(options, findings)
    parts = write_shards(
        options.out,
        source,
        work,
        options.chunk,
        catalogue,
        judgement,
        teacher=TEACHER if options.sface else "",
        labelled=labelled,
        shard_mb=options.shard_mb,
        report=lambda done: progress("writing shards", done, len(judgement.kept), ""),
    )
    report = report_of(findings, parts)
    write_dropped(options.out / DROPPED, findings)
    _write_json(options.out / REPORT, report)
    if sheet is not None:
        write_sheet(sheet, findings, work, options.chunk)
    teachers = {}
    if options.sface is not None:
        digest = plan.crops["teacher_sha256"]
        teachers[TEACHER] = ShardTeacher(size=maker.teacher_size, sha256=digest)
    index = ShardIndex(labelled=labelled, parts=parts, teachers=teachers, plan=asdict(plan))
    _write_json(options.out / INDEX, index.model_dump(mode="json"))
    _clear(work, options)
    return report


def _check_asked(options: Options, source: Source, labelled: bool) -> None:
    if labelled and options.rules.hold_out:
        raise PrepareError(
            "--hold-out is for pictures of nobody known; identities get parts of their own "
            "('choose' and 'report' are held out of 'fit')"
        )
    if not labelled:
        if options.rules.cohort:
            raise PrepareError(
                "--cohort is for identities; pictures of nobody known are no strangers"
            )
        return
    first = next(iter(source.pictures(0, 1))).identity
    step = 4096
    if all(
        picture.identity == first
        for start in range(0, len(source), step)
        for picture in source.pictures(start, start + step)
    ):
        raise PrepareError(
            f"{options.folder} holds one identity; learning to tell people apart needs two or more. "
            "For pictures of nobody known, to be learnt from a teacher, add --unlabelled"
        )


def _judged(
    options: Options, source: Source, catalogue: Catalogue, labelled: bool
) -> tuple[Limits | None, Judgement]:
    if not labelled:
        names = [
            source.pictures(number, number + 1)[0].name for number in catalogue.picture.tolist()
        ]
        return None, judge_unlabelled(catalogue.samples, names, options.rules)
    try:
        strangers = open_bundle(options.bundle).cohort()
    except BundleError as error:
        raise PrepareError(
            f"labels are judged by a bundle's cohort of strangers: {error}"
        ) from error
    limits = limits_from_strangers(strangers, len(catalogue.names))
    own_part = catalogue.own_part[catalogue.picture]
    return limits, judge(catalogue.samples, catalogue.names, own_part, limits, options.rules)


def _check_kept(options: Options, findings: Findings) -> None:
    kept = findings.judgement.kept
    reasons = [text for text in findings.catalogue.reason if text]
    reasons += [str(verdict.rule) for verdict in findings.judgement.dropped.values()]
    often = max(sorted(set(reasons)), key=reasons.count, default="none")
    identities = len(np.unique(findings.catalogue.samples.identity[kept]))
    if len(kept) and (not findings.labelled or identities > 1):
        return
    left = f"{identities} identity" if len(kept) else "no picture"
    raise PrepareError(
        f"{options.folder}: {left} is left of {len(findings.source):,} pictures; most often "
        f"'{often}'. The crops are kept: try other rules with --resume, or remove {options.out}"
    )


def _remove_leftovers(out: Path, work: Path) -> None:
    """What a killed run was writing."""
    for path in (*out.glob(".*.tar.*"), *out.glob(".*.json.*"), *work.glob(".*.npz.*")):
        path.unlink(missing_ok=True)


def _clear(work: Path, options: Options) -> None:
    if not options.keep_work:
        shutil.rmtree(work)


def _read_report(out: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads((out / REPORT).read_bytes())
    except ValueError as error:
        raise PrepareError(f"{out / REPORT} is damaged; the shards themselves are whole") from error
    return report


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with write_atomically(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n")
