"""What was kept, what was dropped and why, and which labels somebody should look at."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limen.files import write_atomically
from limen.train.prepare.catalogue import Catalogue
from limen.train.prepare.judging import Judgement
from limen.train.prepare.sources import Source
from limen.train.prepare.suspects import Limits, SamePerson
from limen.train.shard_index import ShardedPart

REPORT, DROPPED = "report.json", "dropped.csv"
DROPPED_COLUMNS = ("source", "identity", "reason", "detail", "repeats", "score")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Findings:
    """All that a report is made of. limits: None where there are no labels to doubt."""

    source: Source
    catalogue: Catalogue
    judgement: Judgement
    limits: Limits | None
    labelled: bool

    def name(self, row: int) -> str:
        """The source's name of crop `row`."""
        number = int(self.catalogue.picture[row])
        return self.source.pictures(number, number + 1)[0].name

    def identity(self, row: int) -> str | None:
        """The identity of crop `row`, None where nobody is known."""
        if not self.labelled:
            return None
        return self.catalogue.names[int(self.catalogue.samples.identity[row])]


def report_of(findings: Findings, parts: dict[str, ShardedPart]) -> dict[str, Any]:
    """The report, as JSON has it; docs/preparing.md says what each field means."""
    catalogue, judgement = findings.catalogue, findings.judgement
    quality = catalogue.samples.quality[judgement.kept]
    left_out = Counter(one.reason for one in findings.source.left_out)
    dropped = Counter(text for text in catalogue.reason if text)
    dropped.update(str(verdict.rule) for verdict in judgement.dropped.values())
    identities = len(np.unique(catalogue.samples.identity[judgement.kept]))
    return {
        "layout": findings.source.layout,
        "labelled": findings.labelled,
        "pictures": len(findings.source),
        "kept": len(judgement.kept),
        "identities": {
            "listed": len(catalogue.names),
            "kept": identities if findings.labelled else 0,
        },
        "parts": {
            name: {
                "pictures": part.pictures,
                "identities": part.identities,
                "shards": len(part.shards),
                "bytes": sum(shard.bytes for shard in part.shards),
            }
            for name, part in parts.items()
        },
        "dropped": dict(sorted(dropped.items())),
        "left_out": dict(sorted(left_out.items())),
        "other_files": findings.source.other_files,
        "quality": {
            f"p{round(100 * q):02d}": round(float(np.quantile(quality, q)), 4) for q in QUANTILES
        },
        "limits": asdict(findings.limits) if findings.limits else None,
        "suspected_labels": [
            {
                "source": findings.name(one.row),
                "identity": findings.identity(one.row),
                "why": one.why,
                "own_score": _number(one.own),
                "nearest_identity": catalogue.names[one.nearest] if one.nearest >= 0 else None,
                "nearest_score": _number(one.score),
                "dropped": one.row in judgement.dropped,
            }
            for one in judgement.suspects
        ],
        "same_person": [_pair(findings, one) for one in judgement.same_person],
        "same_person_in_two_parts": [_pair(findings, one) for one in judgement.leaks],
        "duplicates_across_identities": [
            {
                "source": findings.name(one.row),
                "identity": findings.identity(one.row),
                "other_source": findings.name(one.other),
                "other_identity": findings.identity(one.other),
                "score": _number(one.score),
                "bits": one.bits,
                "dropped": one.row in judgement.dropped or one.other in judgement.dropped,
            }
            for one in judgement.elsewhere
        ],
    }


def write_dropped(path: Path, findings: Findings) -> None:
    """A line for each picture that is not in the shards, by the order of the source."""
    with write_atomically(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(DROPPED_COLUMNS)
        writer.writerows(_dropped_lines(findings))
        text.flush()
        text.detach()


def _dropped_lines(findings: Findings) -> Iterator[tuple[str, ...]]:
    catalogue, judgement = findings.catalogue, findings.judgement
    row_of = dict(zip(catalogue.picture.tolist(), range(len(catalogue.picture)), strict=True))
    for one in findings.source.left_out:
        yield _safe(one.name), _safe(one.identity), one.reason, _safe(one.detail), "", ""
    for number, reason in enumerate(catalogue.reason):
        verdict = judgement.dropped.get(row_of.get(number, -1))
        if not reason and verdict is None:
            continue
        picture = findings.source.pictures(number, number + 1)[0]
        detail = catalogue.detail[number]
        repeats, score = "", ""
        if verdict is not None:
            reason = str(verdict.rule)
            repeats = findings.name(verdict.other) if verdict.other >= 0 else ""
            score = "" if np.isnan(verdict.score) else f"{verdict.score:.4f}"
        yield (
            _safe(picture.name),
            _safe(picture.identity),
            reason,
            _safe(detail),
            _safe(repeats),
            score,
        )


def _safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _pair(findings: Findings, pair: SamePerson) -> dict[str, Any]:
    names = findings.catalogue.names
    return {
        "identity": names[pair.identity],
        "other_identity": names[pair.other],
        "score": _number(pair.score),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
