"""A contact sheet to look at: what was dropped, and what looks wrong, as one HTML file.

It shows people, so it is written only where it is asked for.
"""

from __future__ import annotations

import base64
import html
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from limen.errors import LimenError
from limen.files import write_atomically
from limen.images import decode_picture, letterbox
from limen.train.prepare.chunks import load_chunk
from limen.train.prepare.crops import encode_webp
from limen.train.prepare.production import chunk_path
from limen.train.prepare.report import Findings

SHEET_SUFFIXES = frozenset({".html", ".htm"})
MAX_EACH = 60  # pictures of one reason
MAX_PAIRS = 60
THUMBNAIL_PX = 112

Item = TypeVar("Item")

_STYLE = """body{font:14px/1.4 system-ui,sans-serif;margin:2em;max-width:1400px}
figure{display:inline-block;margin:3px;padding:3px;vertical-align:top;width:116px}
figure.pair{width:232px;background:#eee}
figcaption{font-size:11px;overflow-wrap:anywhere}
img{width:112px;height:112px;background:#ccc}"""


def write_sheet(path: Path, findings: Findings, work: Path, chunk_size: int) -> None:
    """Write the sheet of `findings`, whose crops are in the chunks of `work`. OSError as it comes.

    At most 60 pictures or pairs of a kind, spread evenly over all there are.
    """
    thumbnails = _Thumbnails(findings, work, chunk_size)
    sections = [
        *_dropped(findings, thumbnails),
        *_suspects(findings, thumbnails),
        *_same_person(findings, thumbnails),
        *_elsewhere(findings, thumbnails),
        *_kept(findings, thumbnails),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>limen prepare</title>'
        f"<style>{_STYLE}</style>{''.join(sections)}</html>\n"
    )
    with write_atomically(path, 0o600) as file:
        file.write(page.encode("utf-8", "replace"))


class _Thumbnails:
    """Pictures as data URLs: the crop where there is one, else the source's picture, small."""

    def __init__(self, findings: Findings, work: Path, chunk_size: int) -> None:
        self._findings = findings
        self._work = work
        self._size = chunk_size

    def of_picture(self, number: int) -> str:
        """Picture `number` as the source has it."""
        source = self._findings.source
        picture = source.pictures(number, number + 1)[0]
        try:
            image = decode_picture(source.reader.read(picture))
        except LimenError:
            return ""
        return _data_url(encode_webp(letterbox(image, THUMBNAIL_PX)))

    def of_crop(self, row: int) -> str:
        """The crop of `row`."""
        number = int(self._findings.catalogue.picture[row])
        start = number // self._size * self._size
        count = min(self._size, len(self._findings.source) - start)
        chunk = load_chunk(chunk_path(self._work, number // self._size), count)
        return _data_url(chunk.crop(number - start)) if chunk is not None else ""


def _dropped(findings: Findings, thumbnails: _Thumbnails) -> Iterable[str]:
    by_reason: defaultdict[str, list[int]] = defaultdict(list)
    for number, reason in enumerate(findings.catalogue.reason):
        if reason:
            by_reason[reason].append(number)
    for reason, numbers in sorted(by_reason.items()):
        figures = []
        for number in _spread(numbers, MAX_EACH):
            name = findings.source.pictures(number, number + 1)[0].name
            detail = findings.catalogue.detail[number]
            figures.append(_figure([thumbnails.of_picture(number)], f"{name}: {detail}"))
        yield _section(f"dropped: {reason}", len(numbers), figures)
    by_rule: defaultdict[str, list[int]] = defaultdict(list)
    for row, verdict in sorted(findings.judgement.dropped.items()):
        by_rule[str(verdict.rule)].append(row)
    for rule, rows in sorted(by_rule.items()):
        figures = []
        for row in _spread(rows, MAX_EACH):
            verdict = findings.judgement.dropped[row]
            shown = [row, verdict.other] if verdict.other >= 0 else [row]
            told = "" if np.isnan(verdict.score) else f" ({verdict.score:.3f})"
            names = " | ".join(findings.name(one) for one in shown)
            figures.append(_figure([thumbnails.of_crop(one) for one in shown], names + told))
        yield _section(f"dropped: {rule}", len(rows), figures)


def _suspects(findings: Findings, thumbnails: _Thumbnails) -> Iterable[str]:
    """Each suspect beside the best picture of its own identity and of the nearest other."""
    suspects = findings.judgement.suspects
    figures = []
    for one in _spread(suspects, MAX_PAIRS):
        own = _example(findings, int(findings.catalogue.samples.identity[one.row]), one.row)
        other = _example(findings, one.nearest, one.row)
        shown = [row for row in (one.row, own, other) if row >= 0]
        text = (
            f"{findings.name(one.row)}: {one.why} (own {one.own:.2f}, nearest {one.score:.2f}). "
            "Suspect, its identity, the nearest one"
        )
        figures.append(_figure([thumbnails.of_crop(row) for row in shown], text))
    yield from [_section("suspected labels", len(suspects), figures)] if suspects else []


def _same_person(findings: Findings, thumbnails: _Thumbnails) -> Iterable[str]:
    pairs = findings.judgement.same_person
    figures = []
    for one in _spread(pairs, MAX_PAIRS):
        rows = [_example(findings, number, -1) for number in (one.identity, one.other)]
        names = [findings.catalogue.names[number] for number in (one.identity, one.other)]
        crops = [thumbnails.of_crop(row) for row in rows if row >= 0]
        figures.append(_figure(crops, f"{names[0]} | {names[1]} ({one.score:.3f})"))
    yield from [_section("two identities, one person?", len(pairs), figures)] if pairs else []


def _elsewhere(findings: Findings, thumbnails: _Thumbnails) -> Iterable[str]:
    pairs = findings.judgement.elsewhere
    figures = [
        _figure(
            [thumbnails.of_crop(one.row), thumbnails.of_crop(one.other)],
            f"{findings.name(one.row)} | {findings.name(one.other)} ({one.score:.3f}, {one.bits} bits)",
        )
        for one in _spread(pairs, MAX_PAIRS)
    ]
    title = "nearly the same picture under two identities"
    yield from [_section(title, len(pairs), figures)] if pairs else []


def _kept(findings: Findings, thumbnails: _Thumbnails) -> Iterable[str]:
    """The worst of what is kept, since a higher --min-quality would drop it first."""
    kept = findings.judgement.kept
    quality = findings.catalogue.samples.quality
    worst = kept[np.argsort(quality[kept], kind="stable")][:MAX_EACH].tolist()
    figures = [
        _figure([thumbnails.of_crop(row)], f"{findings.name(row)}: quality {quality[row]:.3f}")
        for row in worst
    ]
    yield _section("kept, of the lowest quality", len(kept), figures)


def _example(findings: Findings, identity: int, but: int) -> int:
    """The row of the best kept picture of `identity` that is not `but`; -1 without one."""
    samples = findings.catalogue.samples
    rows = findings.judgement.kept
    rows = rows[(samples.identity[rows] == identity) & (rows != but)]
    return int(rows[samples.quality[rows].argmax()]) if len(rows) else -1


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of `items`, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


def _section(title: str, count: int, figures: Sequence[str]) -> str:
    shown = f"{len(figures)} of {count:,}" if len(figures) < count else f"{count:,}"
    return f"<h2>{html.escape(title)}: {shown}</h2>{''.join(figures)}"


def _figure(urls: Sequence[str], caption: str) -> str:
    pictures = "".join(f'<img src="{url}" alt="">' if url else "<img alt=''>" for url in urls)
    kind = ' class="pair"' if len(urls) == 2 else ' style="width:348px"' if len(urls) > 2 else ""
    return f"<figure{kind}>{pictures}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _data_url(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}" if webp else ""
