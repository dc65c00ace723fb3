"""Does a threshold that was calibrated at a door keep its promise there?

    python benchmarks/simulated_doors.py --faces FOLDER [--doors 1000] [--cache FOLDER] [--out JSON]

Random doors from people whom neither the embedder nor the cohort knows: a gallery of 3 to 50
people with 2 to 4 references each, calibrated with the bundle's method against the cohort part.
The truth of a door is what everybody else of the part (about 750 people) scores there, and what
the enrolled people's remaining pictures score. An oracle knows that truth and takes the lowest
threshold that keeps to the FMR. Peers: the fixed constants of SFace (cosine 0.363, the best
reference counts) and face_recognition (Euclidean 0.6, likewise), each with its own embeddings;
faceid's "stranger ceiling" (leave-one-out: just above the highest score of any reference at a
wrong person) and the threshold of best accuracy over the gallery's own references, on ours.

Doors share people, so shares of doors have standard errors from a bootstrap over people. The
measured truth is of few people, too: `shown` counts doors at which the truth's own lower bound (90 %
two-sided, people as clusters) lies above the bound, which its own noise does not explain.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from door_embeddings import Part, load_parts
from numpy.typing import NDArray

from limen.calibration.bounds import clopper_pearson
from limen.calibration.calibrate import InsufficientEvidenceError, calibrate
from limen.calibration.clusters import design_effect_of_counts
from limen.calibration.door_scores import DoorScores, door_scores
from limen.calibration.fusion import fuse, fused_probes
from limen.calibration.pairs import best_accuracy_threshold
from limen.calibration.rates import threshold_at_fmr

SIZES = ((3, 5), (6, 10), (11, 20), (21, 50))
LEVELS = (1e-2, 1e-3, 1e-4)
SFACE, FACE_RECOGNITION = 0.363, 0.6


@dataclass
class Setup:
    """A door: who is enrolled, with which pictures, and which of theirs remain."""

    people: NDArray[np.int64]
    references: NDArray[np.int64]
    subject: NDArray[np.int64]
    remaining: NDArray[np.int64]
    remaining_subject: NDArray[np.int64]


@dataclass
class Measured:
    """One method at one door. hits: false matches a person of the part (people,)."""

    size: int
    people: NDArray[np.int64]
    fmr: float
    bound: float
    fnmr: float
    oracle_fnmr: float
    shown: bool
    hits: NDArray[np.int32] = field(repr=False)


def draw_door(part: Part, size: int, rng: np.random.Generator) -> Setup:
    """`size` people with at least three pictures; 2 to 4 of them enrolled, one or more kept back."""
    counts = np.bincount(part.person)
    people = rng.choice(np.flatnonzero(counts >= 3), size, replace=False)
    references, subject, remaining, remaining_subject = [], [], [], []
    for number, person in enumerate(people):
        rows = rng.permutation(np.flatnonzero(part.person == person))
        shots = min(int(rng.integers(2, 5)), len(rows) - 1)
        references.extend(rows[:shots])
        subject.extend([number] * shots)
        remaining.extend(rows[shots:])
        remaining_subject.extend([number] * (len(rows) - shots))
    return Setup(people, *map(np.array, (references, subject, remaining, remaining_subject)))


@dataclass
class Truth:
    """What the other people score at a door, and the enrolled people's remaining pictures."""

    non_mated: NDArray[np.float32]  # (probes, subjects)
    person: NDArray[np.int64]
    mated: NDArray[np.float32]

    def at(self, threshold: float, people: int) -> tuple[float, float, NDArray[np.int32]]:
        """FMR, FNMR, and false matches a person."""
        hit = (self.non_mated >= threshold).sum(1)
        counts = np.bincount(self.person, hit, people).astype(np.int32)
        return (
            float(hit.sum() / self.non_mated.size),
            float((self.mated < threshold).mean()),
            counts,
        )


def truth_of(part: Part, door: Setup, frames: int) -> Truth:
    templates = fuse(part.embedding[door.references], door.subject, len(door.people))
    out = ~np.isin(part.person, door.people)
    probes, person = fused_probes(part.embedding[out], part.person[out], frames)
    mated, owner = fused_probes(part.embedding[door.remaining], door.remaining_subject, frames)
    return Truth(probes @ templates.T, person, np.einsum("pd,pd->p", mated, templates[owner]))


def best_of_references(
    probes: NDArray[np.float32], references: NDArray[np.float32], subject: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(probes, subjects): the best score over each subject's references."""
    scores = probes @ references.T
    return np.stack([scores[:, subject == s].max(1) for s in range(subject.max() + 1)], axis=1)


def peer_truth(part: Part, door: Setup, which: str) -> tuple[Truth, float]:
    """The truth of a peer's own comparison and its constant, both as similarities."""
    usable = part.dlib_ok if which == "dlib" else np.ones(len(part.person), np.bool_)
    values = part.dlib if which == "dlib" else part.sface
    kept = usable[door.references]
    references, subject = values[door.references][kept], door.subject[kept]
    rows = np.flatnonzero(~np.isin(part.person, door.people) & usable)
    own = usable[door.remaining] & np.isin(door.remaining_subject, subject)
    if which == "dlib":  # minus the Euclidean distance, through one more column each

        def similarity(probes: NDArray[np.float32]) -> NDArray[np.float32]:
            squares = (
                (probes**2).sum(1)[:, None] - 2 * probes @ references.T + (references**2).sum(1)
            )
            distance = -np.sqrt(np.maximum(squares, 0))
            columns = [
                distance[:, subject == s].max(1)
                if (subject == s).any()
                else np.full(len(probes), -np.inf)
                for s in range(len(door.people))
            ]
            return np.stack(columns, axis=1)

        threshold = -FACE_RECOGNITION
    else:

        def similarity(probes: NDArray[np.float32]) -> NDArray[np.float32]:
            return best_of_references(probes, references, subject)

        threshold = SFACE
    mated = similarity(values[door.remaining[own]])
    return (
        Truth(
            similarity(values[rows]),
            part.person[rows],
            mated[np.arange(own.sum()), door.remaining_subject[own]],
        ),
        threshold,
    )


def own_thresholds(part: Part, door: Setup) -> dict[str, float]:
    """Thresholds from the gallery alone: faceid's ceiling, and the best accuracy."""
    embeddings = part.embedding[door.references]
    scores = door_scores(
        embeddings, door.subject, len(door.people), np.zeros((0, embeddings.shape[1]), np.float32)
    )
    both = np.concatenate([scores.mated, scores.non_mated]).astype(np.float64)
    labels = np.arange(len(both)) < len(scores.mated)
    return {
        "faceid's ceiling": float(np.nextafter(scores.non_mated.max(), np.float32(2))),
        "best accuracy": best_accuracy_threshold(both, labels),
    }


def measure(
    truth: Truth, threshold: float, bound: float, door: Setup, oracle_fnmr: float, people: int
) -> Measured:
    fmr, fnmr, hits = truth.at(threshold, people)
    trials = np.bincount(truth.person, minlength=people) * truth.non_mated.shape[1]
    effect = design_effect_of_counts(hits[trials > 0].astype(np.int64), trials[trials > 0])
    low, _ = clopper_pearson(float(hits.sum()) / effect, truth.non_mated.size / effect, 0.9)
    return Measured(len(door.people), door.people, fmr, bound, fnmr, oracle_fnmr, low > bound, hits)


def run(parts: dict[str, Part], doors: int, frames: int, seed: int, sizes: tuple[int, int]) -> dict:
    part, cohort = parts["doors"], parts["cohort"]
    people = int(part.person.max()) + 1
    rng = np.random.default_rng(seed)
    results: dict[tuple[str, float], list[Measured]] = {}
    refused: dict[tuple[float, int], int] = {}
    for number in range(doors):
        door = draw_door(part, int(rng.integers(sizes[0], sizes[1] + 1)), rng)
        truth = truth_of(part, door, frames)
        scores = door_scores(
            part.embedding[door.references], door.subject, len(door.people),
            cohort.embedding, cohort.person, probe_frames=frames,
        )  # fmt: skip
        found: dict[tuple[str, float], tuple[float, float]] = {}
        for level in LEVELS:
            try:
                found["limen", level] = _calibrated(scores, level)
            except InsufficientEvidenceError:
                key = (level, _bin(len(door.people)))
                refused[key] = refused.get(key, 0) + 1
        for name, threshold in own_thresholds(part, door).items():
            for level in LEVELS:
                found[name, level] = (threshold, level)
        for (name, level), (threshold, bound) in found.items():
            _, oracle_fnmr, _ = truth.at(threshold_at_fmr(truth.non_mated.ravel(), level), people)
            results.setdefault((name, level), []).append(
                measure(truth, threshold, bound, door, oracle_fnmr, people)
            )
        for which, name in (("sface", "SFace, 0.363"), ("dlib", "face_recognition, 0.6")):
            peer, threshold = peer_truth(part, door, which)
            for level in LEVELS:
                _, oracle_fnmr, _ = peer.at(threshold_at_fmr(peer.non_mated.ravel(), level), people)
                results.setdefault((name, level), []).append(
                    measure(peer, threshold, level, door, oracle_fnmr, people)
                )
        if (number + 1) % 100 == 0:
            print(f"{number + 1} doors", flush=True)
    return {
        "rows": [
            {"method": name, "fmr": level, **row}
            for (name, level), measured in results.items()
            for row in summarise(measured, people, np.random.default_rng(seed + 1))
        ],
        "refused": [
            {"fmr": level, "sizes": list(SIZES[size]), "doors": count}
            for (level, size), count in sorted(refused.items())
        ],
    }


def _calibrated(scores: DoorScores, level: float) -> tuple[float, float]:
    point = calibrate(
        scores, max_fmr=level, confidence=0.95, model_id="simulated", enrolled_subjects=1,
        cohort_subjects=1, calibrated_at="",
    )  # fmt: skip
    return point.threshold, point.fmr_upper_bound


def _bin(size: int) -> int:
    return next(number for number, (low, high) in enumerate(SIZES) if low <= size <= high)


def summarise(measured: list[Measured], people: int, rng: np.random.Generator) -> list[dict]:
    """A row for each range of sizes and one for all, with standard errors over people."""
    rows = []
    for low, high in (*SIZES, (0, 10**9)):
        some = [m for m in measured if low <= m.size <= high]
        if not some:
            continue
        exceeds = np.array([m.fmr > m.bound for m in some])
        loss = np.array([m.fnmr - m.oracle_fnmr for m in some])
        ratio = np.array([m.fmr / m.bound for m in some])
        share_error, loss_error = _errors(some, loss, people, rng)
        rows.append(
            {
                "sizes": [low, high] if high < 10**9 else "all",
                "doors": len(some),
                "exceeds": float(exceeds.mean()),
                "exceeds_se": share_error,
                "shown": float(np.mean([m.shown for m in some])),
                "median_fmr": float(np.median([m.fmr for m in some])),
                "worst_fmr": float(max(m.fmr for m in some)),
                "median_ratio": float(np.median(ratio)),
                "fnmr": float(np.mean([m.fnmr for m in some])),
                "oracle_fnmr": float(np.mean([m.oracle_fnmr for m in some])),
                "fnmr_loss": float(loss.mean()),
                "fnmr_loss_se": loss_error,
                "loss_within_.03": float(np.mean(np.abs(loss) <= 0.03)),
            }
        )
    return rows


def _errors(
    some: list[Measured], loss: NDArray[np.float64], people: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Standard errors of the share that exceeds and of the mean loss, people drawn whole.

    A door counts as often as its people were drawn; the truth is of the drawn strangers.
    """
    hits = np.stack([m.hits for m in some]).astype(np.float64)
    enrolled = np.zeros((len(some), people))
    for row, m in enumerate(some):
        enrolled[row, m.people] = 1 / len(m.people)
    bounds = np.array([m.bound for m in some])
    fmr = np.array([m.fmr for m in some])
    total = hits.sum(1)
    trials = np.where(fmr > 0, total / np.maximum(fmr, 1e-12), 1.0)
    shares, losses = [], []
    for _ in range(200):
        times = rng.multinomial(people, np.full(people, 1 / people))
        weight = enrolled @ times
        if not weight.any():  # a handful of doors, none of whose people was drawn
            continue
        outside = (1 - (enrolled > 0)) @ times / (people - (enrolled > 0).sum(1))
        truth = (hits @ times) / (trials * outside)
        shares.append(np.average(truth > bounds, weights=weight))
        losses.append(np.average(loss, weights=weight))
    return float(np.std(shares)), float(np.std(losses))


def print_table(result: dict) -> None:
    print(
        "| method | FMR | gallery | doors | true FMR > bound | shown | median FMR | FNMR | oracle's | loss |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in result["rows"]:
        size = row["sizes"] if row["sizes"] == "all" else "{} to {}".format(*row["sizes"])
        print(
            f"| {row['method']} | {row['fmr']:.0e} | {size} | {row['doors']} "
            f"| {row['exceeds']:.3f} ± {row['exceeds_se']:.3f} | {row['shown']:.3f} "
            f"| {row['median_fmr']:.1e} | {row['fnmr']:.3f} | {row['oracle_fnmr']:.3f} "
            f"| {row['fnmr_loss']:+.3f} ± {row['fnmr_loss_se']:.3f} |"
        )
    print("refused:", result["refused"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/limen-doors"))
    parser.add_argument("--doors", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=1, help="pictures fused into a probe")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--sizes", type=int, nargs=2, default=(3, 50))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    parts, model_id = load_parts(given.faces, given.cache)
    result = run(parts, given.doors, given.frames, given.seed, tuple(given.sizes))
    print_table(result)
    if given.out:
        given.out.write_text(json.dumps({"model_id": model_id, **result}, indent=1))


if __name__ == "__main__":
    main()
