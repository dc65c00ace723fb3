"""The verb search: the nearest pictures of a folder, the ones that are there twice, and how well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli.embedding_options import (
    CohortOption,
    Domain,
    DomainOption,
    EmbeddingsOption,
    IndexOption,
    Material,
    RebuildOption,
    RegionOption,
    SheetOption,
    SightOptions,
    look_at,
    open_material,
    row_named,
)
from limen.cli.options import BundleOption, JsonOption, PrecisionOption, RuntimeOption, YuNetOption
from limen.cli.output import print_table, say, say_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limen.uses.distances import Distance
    from limen.uses.duplicates import DuplicateGroup
    from limen.uses.retrieval import RetrievalFigures


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(search)


def search(
    query: Annotated[
        str | None, typer.Argument(help="A picture; with --embeddings a name or row number.")
    ] = None,
    place: Annotated[
        Path | None, typer.Option("--in", help="A folder of pictures, or an index of one.")
    ] = None,
    embeddings: EmbeddingsOption = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many to list.")] = 10,
    distance: Annotated[str, typer.Option(help="cosine, euclidean or manhattan.")] = "cosine",
    threshold: Annotated[
        float | None, typer.Option(help="From which score on it is the same person or thing.")
    ] = None,
    max_fmr: Annotated[
        float, typer.Option(help="Else: the false match rate among pairs of strangers.")
    ] = 1e-3,
    cohort: CohortOption = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="List what is there more than once.")
    ] = False,
    near: Annotated[
        float, typer.Option(help="With --duplicates: the cosine from which on two are one.")
    ] = 0.95,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Folders are classes: search each for its others.")
    ] = False,
    sheet: SheetOption = None,
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
    """Find the pictures most like one, of a folder that is indexed once."""
    from limen.errors import ConfigError
    from limen.uses.distances import Distance

    if (query is not None) + duplicates + evaluate != 1:
        raise ConfigError("name a QUERY, or --duplicates, or --evaluate")
    if distance not in list(Distance):
        raise ConfigError(
            f"distance '{distance}': expected one of {', '.join(Distance)}"
            + ("; with equal lengths L2 is 'euclidean'" if distance.lower() == "l2" else "")
        )
    options = SightOptions(domain, region, bundle, runtime, precision, yunet)
    material = open_material(place, embeddings, options, index, rebuild)
    if sheet is not None and (evaluate or material.found.folder is None):
        raise ConfigError("--sheet shows pictures: it goes with --in, and a QUERY or --duplicates")
    if duplicates:
        _duplicates(material, near, sheet, json)
    elif evaluate:
        _evaluate(material, Distance(distance), json)
    else:
        assert query is not None
        strangers = material.strangers(cohort, options) if threshold is None else None
        bar = strangers.threshold(max_fmr, Distance(distance)) if strangers else threshold
        basis = f"FMR {max_fmr:g} among pairs of {strangers.where}" if strangers else "as named"
        _query(query, material, Distance(distance), top, bar, basis, sheet, json)


def _query(
    query: str,
    material: Material,
    distance: Distance,
    top: int,
    threshold: float | None,
    basis: str,
    sheet: Path | None,
    json: bool,
) -> None:
    import numpy as np

    from limen.uses.contact_sheet import Cell, write_contact_sheet
    from limen.uses.distances import References

    found = material.found
    if material.sight is not None:
        probe, own = look_at(Path(query), material.sight), -1
    else:
        own = row_named(query, found.name)
        probe = found.embeddings[own]
    # One more, since a query that is a row itself is its own nearest.
    rows, scores = References(found.embeddings, distance).nearest(probe, top + (own >= 0))
    kept = np.flatnonzero(rows != own)[:top]
    results = [_result(material, int(rows[one]), float(scores[one]), threshold) for one in kept]
    if sheet is not None:
        cells = [Cell(Path(query), ("query", Path(query).name))]
        for one, result in zip(kept, results, strict=True):
            row = int(rows[one])
            box = None if found.box_xyxy is None else found.box_xyxy[row]
            lines = (f"{result['score']:.3f}", found.name[row])
            cells.append(Cell(found.picture(row), lines, box, bool(result["same"])))
        write_contact_sheet(sheet, f"Most like {Path(query).name}", cells)
    if json:
        say_json(
            {
                "query": query,
                "distance": str(distance),
                "threshold": threshold,
                "basis": basis if threshold is not None else None,
                "model_id": found.model_id,
                "index": material.index,
                "results": results,
            }
        )
        return
    table = [
        [str(r["name"]), f"{r['score']:.4f}", "" if threshold is None else _yes(r["same"])]
        for r in results
    ]
    print_table(f"Most like {Path(query).name}", ["picture", distance, "same"], table)
    if threshold is not None:
        say(f"the same from {threshold:.3f} on: {basis}")


def _result(material: Material, row: int, score: float, threshold: float | None) -> dict[str, Any]:
    found = material.found
    picture = found.picture(row)
    return {
        "name": found.name[row],
        "path": None if picture is None else str(picture),
        "label": None if found.label[row] < 0 else found.label_names[found.label[row]],
        "score": score,
        "same": None if threshold is None else score >= threshold,
        "box_xyxy": None if found.box_xyxy is None else _rounded(found.box_xyxy[row]),
    }


def _duplicates(material: Material, near: float, sheet: Path | None, json: bool) -> None:
    from limen.uses.contact_sheet import Cell, write_contact_sheet
    from limen.uses.duplicates import near_duplicates

    found = material.found
    groups = near_duplicates(found, near)
    if sheet is not None:
        shown = groups[:20]
        cells = [
            Cell(found.picture(row), (f"group {n}: {group.lowest:.3f}", found.name[row]))
            for n, group in enumerate(shown, 1)
            for row in group.rows[:12]
        ]
        title = f"{len(groups)} groups of duplicates" + (
            f", the {len(shown)} largest" if len(shown) < len(groups) else ""
        )
        write_contact_sheet(sheet, title, cells)
    if json:
        told = [_told(material, group) for group in groups]
        say_json({"near": near, "groups": told, "index": material.index})
        return
    more = sum(len(group.rows) - 1 for group in groups)
    say(f"{len(groups)} groups, {more} pictures more than needed (cosine {near:g} or higher)")
    for group in groups:
        say(f"  {group.lowest:.4f}  " + " = ".join(found.name[row] for row in group.rows))


def _told(material: Material, group: DuplicateGroup) -> dict[str, Any]:
    return {"names": [material.found.name[row] for row in group.rows], "lowest": group.lowest}


def _evaluate(material: Material, distance: Distance, json: bool) -> None:
    from limen.uses.retrieval import retrieval_figures

    figures = retrieval_figures(material.found, distance)
    if json:
        say_json({"distance": str(distance), "index": material.index, **_figures(figures)})
        return
    rows = [
        ["Precision@1", f"{figures.precision_at_1:.4f}"],
        ["R-precision", f"{figures.r_precision:.4f}"],
        ["MAP@R", f"{figures.map_at_r:.4f}"],
        *([f"recall@{rank}", f"{value:.4f}"] for rank, value in figures.recall_at.items()),
        ["queries", f"{figures.queries:,}"],
        ["searched", f"{figures.searched:,}"],
        ["classes", f"{figures.classes:,}"],
    ]
    print_table(f"Search by {distance}", ["figure", "value"], rows)


def _figures(figures: RetrievalFigures) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(figures), "recall_at": {str(k): v for k, v in figures.recall_at.items()}}


def _yes(same: object) -> str:
    return "yes" if same else "no"


def _rounded(box: NDArray[np.float32]) -> list[float]:
    return [round(float(side), 1) for side in box]
