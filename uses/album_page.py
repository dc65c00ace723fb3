"""Albums as one page to browse: self-contained, nothing fetched, nothing run."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from limen.images import encode_jpeg
from limen.uses.albums import Album, Albums, album_name, members_of
from limen.uses.cluster_figures import ClusterFigures
from limen.uses.contact_sheet import thumbnail
from limen.uses.embedding_set import EmbeddingSet

MAX_ALBUMS, MAX_SHOWN, MAX_ALONE = 400, 24, 48

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { --paper: #faf8f4; --ink: #20272b; --soft: #5b656b; --line: #e3dfd6; --tile: #dddad2; --mark: #2b7057;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, Charter, Georgia, "DejaVu Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181a; --ink: #e9e6df; --soft: #a5adb1; --line: #2f373b; --tile: #262d31; --mark: #79c7a5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 var(--sans); }
main { width: min(1080px, 100% - 3rem); margin: 2.5rem auto 4rem; }
h1 { font: 500 clamp(1.8rem, 4.5vw, 2.8rem)/1.15 var(--serif); letter-spacing: -.015em; margin: 0 0 .6rem; }
h2 { font: 600 1.05rem/1.3 var(--sans); margin: 0 0 .7rem; display: flex; gap: .7rem; align-items: baseline; }
h2 small, p, figcaption { color: var(--soft); }
h2 small { font-weight: 400; }
p { max-width: 44em; margin: 0 0 .6rem; }
nav { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1.4rem 0 .4rem; }
nav a { display: block; width: 72px; color: var(--soft); font-size: .8rem; text-align: center; text-decoration: none; }
nav img { width: 72px; height: 72px; border-radius: 50%; }
section { padding: 1.5rem 0 .4rem; border-top: 1px solid var(--line); margin-top: 1.5rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(112px, 1fr)); gap: .8rem; }
figure { margin: 0; min-width: 0; }
img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 8px; background: var(--tile); }
figcaption { font-size: .75rem; line-height: 1.3; padding-top: .3rem; overflow-wrap: anywhere; }
.name { aspect-ratio: 3; border-radius: 8px; background: var(--tile); padding: .4rem .5rem; font-size: .8rem; overflow: hidden; }
dl { display: flex; flex-wrap: wrap; gap: .2rem 2rem; margin: 1rem 0 0; font-variant-numeric: tabular-nums; }
dl div { display: flex; gap: .5rem; } dt { color: var(--soft); } dd { margin: 0; font-weight: 600; }
</style>
</head>
<body><main>
<h1>$title</h1>
<p>$lead</p>
$figures
$body
</main></body>
</html>
""")


def album_page(
    found: EmbeddingSet,
    albums: Albums,
    figures: ClusterFigures | None = None,
    smallest: int = 2,
) -> str:
    """The page: a face or picture for each album to jump to, then the albums, the largest first.

    The members of an album are in order of how typical they are, so that what does not belong
    comes last. Albums below `smallest` are shown together.
    """
    row_of = {(m.name, m.part): row for row, m in enumerate(members_of(found))}
    unit = found.unit()
    large = [album for album in albums.albums if len(album.members) >= smallest]
    alone = [album for album in albums.albums if len(album.members) < smallest]
    large.sort(key=lambda album: (-len(album.members), album.number))
    shown = large[:MAX_ALBUMS]
    jumps, sections = [], []
    for album in shown:
        rows = _typical_first(album, row_of, unit)
        label = f"{len(album.members)}"
        anchor = album_name(album.number)
        if found.folder is not None:
            jumps.append(
                f'<a href="#{anchor}"><img alt="" src="{_picture(found, rows[0])}">{label}</a>'
            )
        pictures = len({found.name[row] for row in rows})
        note = (
            f"{pictures} pictures" if pictures == len(rows) else f"{label} in {pictures} pictures"
        )
        if len(rows) > MAX_SHOWN:
            note += f", the {MAX_SHOWN} most typical"
        tiles = "".join(_figure(found, row) for row in rows[:MAX_SHOWN])
        sections.append(
            f'<section id="{anchor}"><h2>{anchor} <small>{note}</small></h2>'
            f'<div class="grid">{tiles}</div></section>'
        )
    if len(shown) < len(large):
        sections.append(
            f"<section><p>{len(large) - len(shown)} smaller albums follow in the list.</p></section>"
        )
    if alone:
        rows = [row_of[m.name, m.part] for album in alone for m in album.members]
        tiles = "".join(_figure(found, row) for row in rows[:MAX_ALONE])
        kept = f", {MAX_ALONE} of them shown" if len(rows) > MAX_ALONE else ""
        sections.append(
            f"<section><h2>In no album <small>{len(rows)}{kept}</small></h2>"
            f'<div class="grid">{tiles}</div></section>'
        )
    lead = (
        f"{len(found):,} embeddings of {len(set(found.name)):,} names, grouped by {albums.method} "
        f"while the mean cosine is {albums.threshold:.3f} or more: {albums.basis}."
    )
    return _PAGE.substitute(
        title=html.escape(f"{len(large):,} albums"),
        lead=html.escape(lead),
        figures=_figures(figures),
        body=(f"<nav>{''.join(jumps)}</nav>" if jumps else "") + "".join(sections),
    )


def _typical_first(
    album: Album, row_of: dict[tuple[str, int], int], unit: NDArray[np.float32]
) -> list[int]:
    rows = np.array([row_of[m.name, m.part] for m in album.members])
    mean = unit[rows].mean(axis=0)
    return [int(row) for row in rows[np.argsort(-(unit[rows] @ mean), kind="stable")]]


def _figure(found: EmbeddingSet, row: int) -> str:
    name = html.escape(found.name[row])
    if found.folder is None:
        return f'<div class="name">{name}</div>'
    return (
        f'<figure><img loading="lazy" alt="" src="{_picture(found, row)}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _picture(found: EmbeddingSet, row: int) -> str:
    box = None if found.box_xyxy is None else found.box_xyxy[row]
    path: Path | None = found.picture(row)
    encoded = base64.b64encode(encode_jpeg(thumbnail(path, box), 80)).decode("ascii")
    return f"data:image/jpeg;base64,{encoded}"


def _figures(figures: ClusterFigures | None) -> str:
    if figures is None:
        return ""
    told = {
        "B-cubed F": figures.b_cubed.f,
        "pairwise F": figures.pairwise.f,
        "NMI": figures.nmi,
        "AMI": figures.ami,
    }
    entries = "".join(
        f"<div><dt>{name}</dt><dd>{value:.4f}</dd></div>" for name, value in told.items()
    )
    return f"<dl>{entries}<div><dt>classes</dt><dd>{figures.classes:,}</dd></div></dl>"
