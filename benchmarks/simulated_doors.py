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
from pathlib import Path

import numpy as np
from door_draws import draw_door, truth_of
from door_embeddings import Part, load_parts
from door_peers import own_thresholds, peer_truth
from door_tables import SIZES, Measured, measure, print_table, summarise

from limen.calibration.calibrate import InsufficientEvidenceError, calibrate
from limen.calibration.door_scores import DoorScores, door_scores
from limen.calibration.rates import threshold_at_fmr

LEVELS = (1e-2, 1e-3, 1e-4)


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
