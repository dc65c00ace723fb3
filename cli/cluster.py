"""The verb cluster: pictures of the same, together."""

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
    SightOptions,
    open_material,
)
from limen.cli.extras import needs_extra
from limen.cli.options import BundleOption, JsonOption, PrecisionOption, RuntimeOption, YuNetOption
from limen.cli.output import print_table, say, say_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limen.uses.albums import Albums
    from limen.uses.cluster_figures import ClusterFigures
    from limen.uses.clustering import Cut, Method


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(cluster)


def cluster(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of pictures, or an index of one.")
    ] = None,
    embeddings: EmbeddingsOption = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for albums of links and a page to browse.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Keep the albums in --out; add what is new to them.")
    ] = False,
    method: Annotated[str, typer.Option(help="agglomerative or hdbscan.")] = "agglomerative",
    threshold: Annotated[
        float | None, typer.Option(help="Mean cosine from which on two groups are one.")
    ] = None,
    cohort: CohortOption = None,
    smallest: Annotated[int, typer.Option(min=1, help="Size of the smallest album.")] = 2,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Labels (a folder's sub-folders) say how good it is.")
    ] = False,
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
    """Group pictures of the same person or thing, cut where strangers say."""
    from limen.errors import ConfigError

    with needs_extra("uses", "sklearn"):
        import sklearn  # noqa: F401

        from limen.uses.albums import Albums, albums_of
        from limen.uses.clustering import Method
    if method not in list(Method):
        raise ConfigError(f"method '{method}': expected one of {', '.join(Method)}")
    if add and out is None:
        raise ConfigError("--add adds to the albums in --out FOLDER: name it")
    options = SightOptions(domain, region, bundle, runtime, precision, yunet)
    material = open_material(folder, embeddings, options, index, rebuild)
    found = material.found
    if add:
        assert out is not None
        before = Albums.read(out, found.model_id)
        number, albums = _added(material, before)
    else:
        cut = _cut(material, threshold, cohort, options, Method(method))
        number = _grouped(material, cut, Method(method))
        albums = Albums(
            model_id=found.model_id,
            method=method,
            threshold=cut.score,
            basis=cut.basis,
            albums=albums_of(found, number),
        )
    figures = _figures(material, number) if evaluate else None
    if out is not None:
        from limen.uses.album_page import album_page
        from limen.uses.albums import write_albums

        page = album_page(found, albums, figures, smallest)
        write_albums(out, albums, found.folder, page, smallest)
    _tell(albums, smallest, figures, out, material, json)


def _cut(
    material: Material,
    threshold: float | None,
    cohort: Path | None,
    options: SightOptions,
    method: Method,
) -> Cut:
    from limen.errors import ConfigError
    from limen.uses.clustering import Cut, best_cut

    if threshold is not None:
        return Cut(threshold, "as named")
    strangers = material.strangers(cohort, options)
    if strangers is None:
        raise ConfigError(
            "nothing says where to cut: name --cohort FILE.npz, labelled embeddings of the same "
            "model to find the cut with, or --threshold"
        )
    return best_cut(strangers, method)


def _grouped(material: Material, cut: Cut, method: Method) -> NDArray[np.int64]:
    from limen.uses.clustering import cluster as grouped

    return grouped(material.found.unit(), cut.score, method)


def _added(material: Material, before: Albums) -> tuple[NDArray[np.int64], Albums]:
    """The groups with what is new in them; new albums come after the old ones."""
    import numpy as np

    from limen.uses.albums import albums_of, members_of
    from limen.uses.clustering import Method, assign, cluster

    found = material.found
    unit = found.unit()
    number = before.rows_of(members_of(found))
    known = number >= 0
    if known.any() and not known.all():
        # Numbered closely for `assign`: an album may have lost all its pictures.
        kept, close = np.unique(number[known], return_inverse=True)
        joined = assign(unit[~known], unit[known], close, before.threshold)
        number[~known] = np.where(joined >= 0, kept[np.maximum(joined, 0)], -1)
    left = number < 0
    if left.any():
        fresh = cluster(unit[left], before.threshold, Method(before.method))
        number[left] = len(before.albums) + fresh
    keep = [album.number for album in before.albums]
    return number, before.model_copy(update={"albums": albums_of(found, number, keep)})


def _figures(material: Material, number: NDArray[np.int64]) -> ClusterFigures:
    import numpy as np

    from limen.uses.cluster_figures import cluster_figures

    found = material.found
    found.labelled()  # raises where there is nothing to compare with
    rows = found.label >= 0
    if found.nearest is not None:
        rows &= found.nearest
    return cluster_figures(np.asarray(number[rows]), found.label[rows])


def _tell(
    albums: Albums,
    smallest: int,
    figures: ClusterFigures | None,
    out: Path | None,
    material: Material,
    json: bool,
) -> None:
    large = [album for album in albums.albums if len(album.members) >= smallest]
    if json:
        told: dict[str, Any] = {
            "albums": [
                {"number": a.number, "members": [[m.name, m.part] for m in a.members]}
                for a in albums.albums
            ],
            "threshold": albums.threshold,
            "basis": albums.basis,
            "method": albums.method,
            "out": None if out is None else str(out),
            "index": material.index,
            "figures": None if figures is None else _as_dict(figures),
        }
        say_json(told)
        return
    alone = sum(len(a.members) for a in albums.albums) - sum(len(a.members) for a in large)
    say(f"{len(large)} albums, {alone} in none; cut at {albums.threshold:.3f} ({albums.basis})")
    for album in sorted(large, key=lambda a: -len(a.members))[:20]:
        names = list(dict.fromkeys(member.name for member in album.members))
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        say(f"  {album.number}: {len(album.members)}: {', '.join(names[:4])}{more}")
    if len(large) > 20:
        say(f"  and {len(large) - 20} more")
    if figures is not None:
        rows = [
            ["B-cubed F", f"{figures.b_cubed.f:.4f}"],
            ["B-cubed precision, recall", _both(figures.b_cubed)],
            ["pairwise F", f"{figures.pairwise.f:.4f}"],
            ["pairwise precision, recall", _both(figures.pairwise)],
            ["NMI", f"{figures.nmi:.4f}"],
            ["AMI", f"{figures.ami:.4f}"],
            ["groups, classes", f"{figures.groups:,}, {figures.classes:,}"],
        ]
        print_table(f"{figures.rows:,} labelled", ["figure", "value"], rows)
    if out is not None:
        say(f"look at {out / 'index.html'}")


def _both(pair: Any) -> str:
    return f"{pair.precision:.4f}, {pair.recall:.4f}"


def _as_dict(figures: ClusterFigures) -> dict[str, Any]:
    from dataclasses import asdict

    told = asdict(figures)
    told["b_cubed"]["f"], told["pairwise"]["f"] = figures.b_cubed.f, figures.pairwise.f
    return told
