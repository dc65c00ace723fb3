"""The search index at a million: recall against exact search, time for a probe, and the start.

    python benchmarks/gallery_index.py [--subjects 1000000] [--probes 1000] [--folder .]

Templates are drawn with the mean and the covariance of the shipped bundle's cohort, so that they crowd
as faces do, not as random directions; no such number of faces is at hand. Probes of enrolled people
have the cosine named to their template; strangers have none. The truth is a float32 product over everybody.
The gallery is a real file: subjects enrolled, the index made and kept, the process's caches dropped by
opening again. Prints recall@1, the time of a probe against exact search in the same rounds, the size of
the file, and how long a start takes: opening the gallery, decryption, and the first answer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import limen
from limen.device.gallery import Gallery
from limen.device.gallery.index_file import index_path
from limen.device.gallery.records import insert_subject
from limen.device.gallery.templates import reference_context, seal_template
from limen.device.matching import ExactSearch
from limen.device.recogniser import Recogniser
from limen.device.subjects import SubjectDetails

AT = "2026-11-01T12:00:00+00:00"
MODEL_ID = "benchmark"
BLOCK = 20_000
COSINES = (0.5, 0.55, 0.6, 0.7, 0.8)


class Crowd:
    """Templates as alike as the cohort's people are."""

    def __init__(self) -> None:
        cohort = limen.open_bundle().cohort()
        people = np.unique(cohort.subject)
        means = np.stack([cohort.embeddings[cohort.subject == p].mean(0) for p in people])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        self.mean = means.mean(0)
        values, vectors = np.linalg.eigh(np.cov(means.T))
        self.root = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)

    def draw(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        drawn = self.mean + rng.standard_normal((rows, len(self.mean)), np.float32) @ self.root.T
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    def mated(self, rng: np.random.Generator, own: np.ndarray, cosine: float) -> np.ndarray:
        """Probes at this cosine from their own template, away from it as the crowd lies."""
        away = self.draw(rng, len(own))
        away -= (away * own).sum(1, keepdims=True) * own
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        return (cosine * own + np.sqrt(1 - cosine**2) * away).astype(np.float32)


def fill(gallery: Gallery, first: int, rows: np.ndarray) -> None:
    """Subjects with a reference each, as enrolment leaves them, without an audit entry for each."""
    vault = gallery.store.vault
    with gallery.store.writing(references=True) as execute:
        for number, row in enumerate(rows):
            subject = insert_subject(execute, vault, f"p{first + number:07}", AT, SubjectDetails())
            bound_to = reference_context(subject.key.uid, MODEL_ID)
            sealed = seal_template(vault.records, row, 0.5, AT, bound_to)
            execute("INSERT INTO reference (subject, sealed) VALUES (?, ?)", (subject.row, sealed))


def truth(templates: np.ndarray, probes: np.ndarray) -> np.ndarray:
    best = np.full(len(probes), -2.0, np.float32)
    row = np.zeros(len(probes), np.int64)
    for first in range(0, len(templates), BLOCK):
        scores = templates[first : first + BLOCK] @ probes.T
        at = scores.argmax(0)
        top = scores[at, np.arange(len(probes))]
        better = top > best
        best[better], row[better] = top[better], first + at[better]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=1_000_000)
    parser.add_argument("--probes", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=Path())
    arguments = parser.parse_args()
    rng, crowd = np.random.default_rng(0), Crowd()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "gallery.db"
        started = time.perf_counter()
        with Gallery.open(path, model_id=MODEL_ID, create=True) as gallery:
            for first in range(0, arguments.subjects, BLOCK):
                rows = crowd.draw(rng, min(BLOCK, arguments.subjects - first))
                fill(gallery, first, rows)
        print(f"enrolled                {time.perf_counter() - started:9.1f} s", flush=True)
        with Gallery.open(path) as gallery:
            started = time.perf_counter()
            gallery.templates(index_above=1_000)
            print(f"index made and kept     {time.perf_counter() - started:9.1f} s", flush=True)
        size = index_path(path).stat().st_size
        print(f"gallery {path.stat().st_size / 1e6:,.0f} MB, index {size / 1e6:,.0f} MB")

        started = time.perf_counter()
        with Gallery.open(path) as gallery:
            opened = time.perf_counter()
            gallery.erase_expired(gallery.store.clock())
            references = gallery.templates(index_above=1_000)
            loaded = time.perf_counter()
            Recogniser(references, 0.9).identify(references.embeddings[0], 2)
            ready = time.perf_counter()
        print(f"start: gallery opened   {opened - started:9.2f} s")
        print(f"       index decrypted  {loaded - opened:9.2f} s")
        print(f"       first answer     {ready - loaded:9.2f} s")
        print(f"       in all           {ready - started:9.2f} s", flush=True)

        templates, search = references.embeddings, references.search
        assert search is not None
        exact = ExactSearch(templates)
        probes = {"strangers": crowd.draw(rng, arguments.probes)}
        for cosine in COSINES:
            chosen = rng.choice(len(templates), arguments.probes, replace=False)
            probes[f"cosine {cosine}"] = crowd.mated(rng, templates[chosen], cosine)
        hits = 0
        for name, rows in probes.items():
            true = truth(templates, rows)
            same = sum(
                int(search.best(row, 1)[0][0] == t) for row, t in zip(rows, true, strict=True)
            )
            hits += same
            print(f"recall@1, {name:12}  {same / len(rows):9.4f}", flush=True)
        print(f"recall@1, all           {hits / sum(map(len, probes.values())):9.4f}")
        own_s, exact_s = [], []
        for row in probes["strangers"][:30]:
            for one, times in ((search, own_s), (exact, exact_s)):
                started = time.perf_counter()
                one.best(row, 5)
                times.append(time.perf_counter() - started)
        print(f"a probe by index        {1e3 * statistics.median(own_s):9.2f} ms")
        print(f"a probe exactly         {1e3 * statistics.median(exact_s):9.2f} ms")


if __name__ == "__main__":
    main()
