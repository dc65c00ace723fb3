"""What is rare or hard among the training pictures, to be shown more often.

Turned faces are known by their landmarks; the backgrounds that a network takes for faces are found
by looking. Backgrounds are kept as seeds of the generator that cut them out, so that a step repeats
from the run's own folder. Held-out pictures are never looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from limen.errors import ConfigError
from limen.files import write_atomically
from limen.train.finder.backdrops import pictured
from limen.train.finder.labels import Labels
from limen.train.finder.network import FinderNetwork, answers
from limen.train.finder.source import Source
from limen.train.validation import to_input

VIEW_PX = (256, 256)
TRIED_BACKGROUNDS = 700
LEAST_CONFIDENCE = 0.3  # of a background's false face
MOST_BACKGROUNDS = 600
TURNED_SHARE = 0.1  # of the pictures
BATCH = 8
STREAM = 23  # sets these generators apart from a step's


@dataclass(frozen=True)
class HardCases:
    """faces: indices of pictures; backgrounds: seeds for `generator`."""

    faces: tuple[int, ...] = ()
    backgrounds: tuple[int, ...] = ()

    @staticmethod
    def generator(seed: int) -> np.random.Generator:
        """What `pictured` cuts a background out with."""
        return np.random.default_rng([STREAM, seed])

    def save(self, file: Path) -> None:
        """Write them as JSON."""
        with write_atomically(file) as out:
            out.write(
                json.dumps({"faces": self.faces, "backgrounds": self.backgrounds}).encode("utf-8")
            )

    @staticmethod
    def load(file: Path, pictures: int) -> HardCases:
        """The reverse of `save`. ConfigError where the file is not one, or of other pictures."""
        try:
            content = json.loads(file.read_text("utf-8"))
            found = HardCases(
                tuple(int(v) for v in content["faces"]),
                tuple(int(v) for v in content["backgrounds"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{file}: not a list of hard cases ({error})") from error
        if any(not 0 <= index < pictures for index in found.faces):
            raise ConfigError(
                f"{file}: of other pictures than these {pictures}: name another --out"
            )
        return found


def find_hard_cases(
    network: FinderNetwork,
    source: Source,
    tried_backgrounds: int = TRIED_BACKGROUNDS,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> HardCases:
    """The tenth of the pictures whose faces are turned most, those whose landmarks the teachers did
    not agree about, and the backgrounds where the network takes something for a face with a
    confidence of 0.3 or more.
    """
    turns = np.array([_turn(source.labels(index)[0]) for index in range(len(source))])
    most = np.argsort(-turns, kind="stable")[: round(TURNED_SHARE * len(source))]
    faces = np.union1d(most, np.flatnonzero(np.isinf(turns)))
    seeds = false_faces(network, source, tried_backgrounds, report)
    return HardCases(tuple(int(v) for v in faces), tuple(seeds[:MOST_BACKGROUNDS]))


def _turn(labels: Labels) -> float:
    """How far the largest face's nose lies from between its eyes, by their distance.

    Infinite where its landmarks are unknown.
    """
    sizes = np.prod(labels.boxes_xyxy[:, 2:] - labels.boxes_xyxy[:, :2], axis=1)
    points = labels.landmarks_xy[int(sizes.argmax())].astype(np.float64)
    if np.isnan(points).any():
        return float("inf")
    eyes = points[1] - points[0]
    away = points[2] - (points[0] + points[1]) / 2
    return abs(float(away @ eyes)) / max(1.0, float(eyes @ eyes))


@torch.inference_mode()
def false_faces(
    network: FinderNetwork,
    source: Source,
    tried: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[int]:
    """Seeds of backgrounds in which the network sees a face, the surest first."""
    network.eval()
    found: list[tuple[float, int]] = []
    for start in range(0, tried, BATCH):
        seeds = range(start, min(start + BATCH, tried))
        cut = [(seed, pictured(VIEW_PX, HardCases.generator(seed), source)) for seed in seeds]
        known = [(seed, image) for seed, image in cut if image is not None]
        if known:
            maps = network(to_input(np.stack([image for _, image in known])))
            surest = answers(maps)[..., 0].amax(1).sigmoid().tolist()
            found += [(value, seed) for value, (seed, _) in zip(surest, known, strict=True)]
        report(seeds.stop, tried)
    return [seed for value, seed in sorted(found, reverse=True) if value >= LEAST_CONFIDENCE]
