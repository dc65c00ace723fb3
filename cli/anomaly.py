"""The verbs anomaly fit and anomaly score: does this belong to what was seen?"""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.embedding_options import (
    Domain,
    DomainOption,
    EmbeddingsOption,
    IndexOption,
    RebuildOption,
    RegionOption,
    SheetOption,
    SightOptions,
    open_material,
)
from limen.cli.extras import needs_extra
from limen.cli.options import BundleOption, JsonOption, PrecisionOption, RuntimeOption, YuNetOption
from limen.cli.output import EXIT_NO, note, percent, print_table, say, say_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limen.uses.anomaly import AnomalyModel
    from limen.uses.embedding_set import EmbeddingSet
    from limen.uses.sight import Sight

ModelOption = Annotated[Path, typer.Option("--model", help="The file of 'limen anomaly fit'.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    verbs = typer.Typer(
        help="Does this belong to what was seen? Learn what is familiar, then score.",
        no_args_is_help=True,
    )
    verbs.command()(fit)
    verbs.command()(score)
    app.add_typer(verbs, name="anomaly")


def fit(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of what is familiar, or its index.")
    ] = None,
    embeddings: EmbeddingsOption = None,
    method: Annotated[str, typer.Option(help="knn, mahalanobis or one-class.")] = "knn",
    neighbours: Annotated[int, typer.Option(min=1, max=100, help="With knn: how many.")] = 5,
    max_false_alarms: Annotated[
        float, typer.Option(help="The rate of alarms among familiar ones, at most.")
    ] = 0.05,
    confidence: Annotated[float, typer.Option(help="How sure that rate is kept to.")] = 0.95,
    by_folder: Annotated[
        bool,
        typer.Option(
            "--by-folder", help="Pictures of a sub-folder are alike: count them together."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Which half the threshold is set on.")] = 1,
    index: IndexOption = None,
    rebuild: RebuildOption = False,
    domain: DomainOption = Domain.FACES,
    region: RegionOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Learn what is familiar from one half, and set the alarm's threshold on the other."""
    import dataclasses

    import numpy as np

    from limen.errors import ConfigError
    from limen.uses.anomaly import DetectorKind, fit_anomaly
    from limen.uses.anomaly_file import write_anomaly

    if method not in list(DetectorKind):
        raise ConfigError(f"method '{method}': expected one of {', '.join(DetectorKind)}")
    options = SightOptions(domain, region, bundle, runtime, precision, yunet)
    material = open_material(folder, embeddings, options, index, rebuild)
    found = material.found
    with needs_extra("uses", "sklearn"):
        model = fit_anomaly(
            found,
            DetectorKind(method),
            max_false_alarms=max_false_alarms,
            confidence=confidence,
            rng=np.random.default_rng(seed),
            group=_groups(found, by_folder),
            k=neighbours,
        )
    write_anomaly(out, model)
    point = model.point
    if json:
        say_json(
            {
                "out": str(out),
                "method": method,
                "model_id": model.model_id,
                **dataclasses.asdict(point),
            }
        )
        return
    say(
        f"{method} in {out}: threshold {point.threshold:.4f}, false alarms "
        f"{percent(point.false_alarm_rate)}, at most {percent(point.false_alarm_bound)} with "
        f"{percent(confidence, 0)} confidence ({point.familiar} kept apart)"
    )


def score(
    model: ModelOption,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, or folders of them.")
    ] = None,
    embeddings: EmbeddingsOption = None,
    strange: Annotated[
        Path | None,
        typer.Option(help="A folder or .npz of what does not belong: then figures are told."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="camera, camera:N, a video, rtsp://…: a JSON line a frame.")
    ] = None,
    sheet: SheetOption = None,
    domain: DomainOption = Domain.FACES,
    region: RegionOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """How strange are these? Exit 1 where anything is an alarm, unless figures were asked for."""
    from limen.errors import ConfigError
    from limen.uses.anomaly_file import read_anomaly

    if bool(paths) + (embeddings is not None) + (source is not None) != 1:
        raise ConfigError("name pictures, or --embeddings FILE.npz, or --source S")
    if sheet is not None and not paths:
        raise ConfigError("--sheet shows pictures: name some")
    ready = read_anomaly(model)
    options = SightOptions(domain, region, bundle, runtime, precision, yunet)
    if source is not None:
        if strange is not None:
            raise ConfigError("--strange goes with pictures or --embeddings, not with --source")
        _stream(ready, options.open()[1], source)
        return
    sight: Sight | None = None
    if embeddings is not None:
        found = _read(embeddings)
    else:
        sight = options.open()[1]
        found = _seen(paths or [], sight)
    values = ready.strangeness(found.embeddings, found.model_id)
    if strange is not None:
        if strange.suffix != ".npz" and sight is None:
            sight = options.open()[1]
        other = _read(strange) if strange.suffix == ".npz" else _seen([strange], sight)
        _figures(ready, values, ready.strangeness(other.embeddings, other.model_id), json)
        return
    if sheet is not None:
        _sheet(sheet, found, values, ready.point.threshold)
    alarms = values >= ready.point.threshold
    if json:
        rows = [
            {"name": name, "strangeness": float(value), "alarm": bool(alarm)}
            for name, value, alarm in zip(found.name, values, alarms, strict=True)
        ]
        say_json({"threshold": ready.point.threshold, "alarms": int(alarms.sum()), "scores": rows})
    else:
        order = sorted(range(len(values)), key=lambda row: -values[row])
        shown = [
            [found.name[r], f"{values[r]:.4f}", "alarm" if alarms[r] else ""] for r in order[:50]
        ]
        print_table("Strangest first", ["name", "strangeness", ""], shown)
        say(f"{int(alarms.sum())} of {len(values)} at or above {ready.point.threshold:.4f}")
    if alarms.any():
        raise typer.Exit(EXIT_NO)


def _groups(found: EmbeddingSet, by_folder: bool) -> NDArray[np.int64]:
    """Rows of one picture count together; with by_folder, those of one folder or label."""
    import numpy as np

    if by_folder:
        found.labelled()  # raises where there are not two
        names = [found.label_names[number] if number >= 0 else "" for number in found.label]
        return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)
    return np.asarray(np.unique(found.name, return_inverse=True)[1], np.int64)


def _read(path: Path) -> EmbeddingSet:
    from limen.uses.embedding_file import read_embeddings

    return read_embeddings(path)


def _seen(paths: list[Path], sight: Sight | None) -> EmbeddingSet:
    """Everything that is seen in pictures; those that show nothing are named on stderr."""
    import numpy as np

    from limen.errors import NoFaceError, PictureError
    from limen.folder import find_pictures
    from limen.images import read_picture
    from limen.uses.embedding_set import EmbeddingSet

    assert sight is not None
    names: list[str] = []
    rows: list[NDArray[np.float32]] = []
    boxes: list[NDArray[np.float32]] = []
    for path in find_pictures(paths):
        try:
            seen = sight.see(read_picture(path))
        except PictureError as error:
            note(str(error))
            continue
        if not seen:
            note(f"{path}: nothing was found in it, such as a face")
        names += [str(path)] * len(seen)
        rows.append(sight.embed(seen))
        boxes += [one.box_xyxy for one in seen]
    if not names:
        raise NoFaceError("nothing to score was found in any picture")
    none = np.full(len(names), -1, np.int64)
    return EmbeddingSet(
        tuple(names), np.concatenate(rows), none, (), sight.model_id, Path(), np.stack(boxes)
    )


def _stream(model: AnomalyModel, sight: Sight, source: str) -> None:
    """A line a frame; a frame that shows nothing has no strangeness and is no alarm."""
    from limen.device.sources import open_source

    with open_source(source) as frames:
        for frame in frames:
            seen = sight.see(frame.image)
            values: list[float] = []
            if seen:
                values = model.strangeness(sight.embed(seen), sight.model_id).tolist()
            told = {
                "sequence": frame.sequence,
                "captured_at_s": round(frame.captured_at_s, 3),
                "strangeness": [round(value, 5) for value in values],
                "alarm": any(value >= model.point.threshold for value in values),
            }
            say(json_format.dumps(told))


def _sheet(path: Path, found: EmbeddingSet, values: NDArray[np.float64], threshold: float) -> None:
    from limen.uses.contact_sheet import Cell, write_contact_sheet

    assert found.box_xyxy is not None
    order = sorted(range(len(values)), key=lambda row: -values[row])[:60]
    cells = [
        Cell(
            Path(found.name[row]),
            (f"{values[row]:.3f}{' alarm' if values[row] >= threshold else ''}", found.name[row]),
            found.box_xyxy[row],
            bool(values[row] < threshold),
        )
        for row in order
    ]
    write_contact_sheet(path, f"Strangest first; familiar below {threshold:.3f} (green)", cells)


def _figures(
    model: AnomalyModel, familiar: NDArray[np.float64], strange: NDArray[np.float64], json: bool
) -> None:
    from dataclasses import asdict

    from limen.uses.anomaly_figures import anomaly_figures

    figures = anomaly_figures(familiar, strange, model.point.threshold)
    if json:
        say_json({"method": str(model.kind), "threshold": model.point.threshold, **asdict(figures)})
        return
    print_table(
        f"{model.kind}: strange against familiar", ["figure", "value"], list(_rows(figures))
    )


def _rows(figures: Any) -> Iterator[list[str]]:
    yield ["AUROC", f"{figures.auroc:.4f}"]
    yield ["AUPR", f"{figures.aupr:.4f}"]
    yield ["FPR at 95 % TPR", percent(figures.fpr_at_95_tpr)]
    yield ["false alarms at the threshold", percent(figures.false_alarm_rate)]
    yield ["found at the threshold", percent(figures.detection_rate)]
    yield ["familiar, strange", f"{figures.familiar:,}, {figures.strange:,}"]
