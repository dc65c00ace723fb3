"""Scenes to learn finding from: labelled pictures turned, scaled and composed at random.

A door's camera sees one face or several, near or far, at the frame's edge, in bad light, or none
at all. A scene is one picture placed at random, a mosaic of several small ones, or background
alone. Everything follows from the random generator, so that a step repeats exactly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from limen.train.finder.backdrops import backdrop, pictured
from limen.train.finder.covering import cover_faces
from limen.train.finder.hard_cases import HardCases
from limen.train.finder.placing import Scene, mirrored, place, without_faces
from limen.train.finder.source import Image, Source
from limen.train.finder.spoiling import spoil

SMALLEST_PX, LARGEST_PX = 12.0, 230.0
NEAR_PX = 56.0  # what a near face measures at least, in a scene that is large enough
LARGEST_ENLARGEMENT = 1.8
MOSAICS = ((1, 2), (2, 2), (2, 2), (2, 3), (3, 4))


@dataclass(frozen=True)
class SceneSettings:
    """How often a scene is of which kind; the rest is one picture placed at random.

    near: how often a lone picture's face is a near one, of any size otherwise; covered: how often a
    face is partly hidden; hard_faces, hard_backgrounds: how often a lone picture or a background is
    one of `hard`.
    """

    height_px: int = 256
    width_px: int = 320
    mosaic: float = 0.3
    background: float = 0.12
    turned: float = 0.08
    near: float = 0.0
    covered: float = 0.0
    hard_faces: float = 0.0
    hard_backgrounds: float = 0.0
    hard: HardCases = field(default_factory=HardCases)


def compose(source: Source, settings: SceneSettings, rng: np.random.Generator) -> Scene:
    """One scene."""
    kind = rng.random()
    size = (settings.height_px, settings.width_px)
    if kind < settings.background:
        scene = without_faces(_background(source, size, settings, rng))
    elif kind < settings.background + settings.mosaic:
        scene = _mosaic(source, settings, rng)
    else:
        scene = _single(source, size, settings, rng, None)
    if settings.covered:
        scene = cover_faces(scene, settings.covered, rng)
    if rng.random() < 0.5:
        scene = mirrored(scene)
    return replace(scene, image=spoil(scene.image, rng))


def _background(
    source: Source, size: tuple[int, int], settings: SceneSettings, rng: np.random.Generator
) -> Image:
    seeds = settings.hard.backgrounds
    if seeds and rng.random() < settings.hard_backgrounds:
        seed = seeds[int(rng.integers(len(seeds)))]
        found = pictured(size, settings.hard.generator(seed), source)
        if found is not None:
            return found
    return backdrop(size, rng, source)


def _single(
    source: Source,
    size: tuple[int, int],
    settings: SceneSettings,
    rng: np.random.Generator,
    largest_px: float | None,
) -> Scene:
    """One picture with a face of a chosen size somewhere in the scene."""
    chosen = settings.hard.faces
    hard = bool(chosen) and rng.random() < settings.hard_faces
    index = int(chosen[rng.integers(len(chosen))]) if hard else int(rng.integers(len(source)))
    labels, _ = source.labels(index)
    height, width = size
    face = int(rng.integers(len(labels.boxes_xyxy)))
    box = labels.boxes_xyxy[face]
    side = float(np.sqrt(max(1.0, float(np.prod(box[2:] - box[:2])))))
    most = largest_px or min(LARGEST_PX, 0.9 * min(size))
    near = bool(settings.near) and largest_px is None and rng.random() < settings.near
    least = min(NEAR_PX if near else SMALLEST_PX, most / 2)
    wanted = float(np.exp(rng.uniform(np.log(least), np.log(most))))
    scale = min(wanted / side, LARGEST_ENLARGEMENT)
    turned = rng.random() < settings.turned
    angle = rng.uniform(-60, 60) if turned else rng.normal(0, 9)
    centre = (box[:2] + box[2:]) / 2
    # Beyond the edge by up to a third of the face, now and then.
    margin = scale * side * (-0.35 if rng.random() < 0.15 else 0.5)
    target = [
        rng.uniform(min(margin, extent / 2), max(extent - margin, extent / 2))
        for extent in (width, height)
    ]
    matrix = np.asarray(
        cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), float(angle), scale),
        np.float64,
    )
    matrix[:, 2] += np.asarray(target) - centre
    return place(index, size, matrix, rng, source)


def _mosaic(source: Source, settings: SceneSettings, rng: np.random.Generator) -> Scene:
    rows, columns = MOSAICS[int(rng.integers(len(MOSAICS)))]
    height, width = settings.height_px, settings.width_px
    ys = np.linspace(0, height, rows + 1).astype(int)
    xs = np.linspace(0, width, columns + 1).astype(int)
    canvas = np.zeros((height, width, 3), np.uint8)
    parts: list[Scene] = []
    for top, bottom in itertools.pairwise(ys):
        for left, right in itertools.pairwise(xs):
            size = (int(bottom - top), int(right - left))
            part = _single(source, size, settings, rng, 0.9 * min(size))
            canvas[top:bottom, left:right] = part.image
            corner = np.array([left, top], np.float32)
            parts.append(
                Scene(
                    part.image,
                    part.boxes_xyxy + np.tile(corner, 2),
                    part.landmarks_xy + corner,
                    part.ignored_xyxy + np.tile(corner, 2),
                )
            )
    return Scene(
        canvas,
        np.concatenate([p.boxes_xyxy for p in parts]),
        np.concatenate([p.landmarks_xy for p in parts]),
        np.concatenate([p.ignored_xyxy for p in parts]),
    )
