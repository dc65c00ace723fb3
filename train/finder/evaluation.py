"""How well a finder finds: recall by size, false faces, landmark error by the eyes' distance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limen.anchors import decode, overlaps
from limen.detection import DetectedFace
from limen.train.finder.network import FinderNetwork, answers
from limen.train.finder.placing import Scene
from limen.train.finder.scenes import SceneSettings, compose
from limen.train.finder.source import Source
from limen.train.validation import to_input

MIN_CONFIDENCE = 0.5
MIN_OVERLAP = 0.5
SIZES_PX = (16.0, 24.0, 40.0, 64.0, 112.0)

Detect = Callable[[NDArray[np.uint8]], Sequence[DetectedFace]]


@dataclass
class FinderCounts:
    """What was found and what was not. Sizes are roots of the box's area, px."""

    sizes_px: list[float] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    landmark_errors: list[float] = field(default_factory=list)
    false_faces: int = 0
    pictures: int = 0

    def add(self, scene: Scene, faces: Sequence[DetectedFace]) -> None:
        """Match one picture's faces, best overlap first."""
        self.pictures += 1
        free = list(range(len(faces)))
        boxes = np.asarray([f.box_xyxy for f in faces], np.float32).reshape(-1, 4)
        for box, points in zip(scene.boxes_xyxy, scene.landmarks_xy, strict=True):
            shared = overlaps(box, boxes)
            best = max(free, key=lambda i: shared[i], default=None)
            hit = best is not None and shared[best] >= MIN_OVERLAP
            self.sizes_px.append(float(np.sqrt(np.prod(box[2:] - box[:2]))))
            self.found.append(hit)
            if not hit:
                continue
            assert best is not None
            free.remove(best)
            if not np.isnan(points).any():
                eyes = max(1.0, float(np.linalg.norm(points[1] - points[0])))
                error = np.linalg.norm(faces[best].landmarks_xy - points, axis=1).mean()
                self.landmark_errors.append(float(error) / eyes)
        for index in free:
            middle = (boxes[index, :2] + boxes[index, 2:]) / 2
            if not any(_within(middle, box) for box in (*scene.ignored_xyxy, *scene.boxes_xyxy)):
                self.false_faces += 1

    def summary(self) -> dict[str, float]:
        """Recall in all and by size, mean and median landmark error, false faces a picture."""
        sizes, found = np.asarray(self.sizes_px), np.asarray(self.found, bool)
        rows = {"recall": float(found.mean()) if len(found) else 0.0}
        for low, high in zip(SIZES_PX, (*SIZES_PX[1:], np.inf), strict=True):
            inside = (sizes >= low) & (sizes < high)
            if inside.any():
                rows[f"recall_from_{low:.0f}_px"] = float(found[inside].mean())
        errors = np.asarray(self.landmark_errors)
        rows["landmark_error"] = float(errors.mean()) if len(errors) else 1.0
        rows["median_landmark_error"] = float(np.median(errors)) if len(errors) else 1.0
        rows["false_faces_per_picture"] = self.false_faces / max(1, self.pictures)
        return rows


def _within(point: NDArray[np.floating[Any]], box: NDArray[np.float32]) -> bool:
    return bool((point >= box[:2]).all() and (point <= box[2:]).all())


@torch.inference_mode()
def detect_with_network(
    network: FinderNetwork, image: NDArray[np.uint8], min_confidence: float = MIN_CONFIDENCE
) -> list[DetectedFace]:
    """Faces of an (H, W, 3) uint8 RGB picture whose sides are multiples of 32."""
    found = answers(network(to_input(image[None])))[0].numpy()
    return decode(found, image.shape[0], image.shape[1], min_confidence)


def evaluate_scenes(
    network: FinderNetwork, source: Source, settings: SceneSettings, scenes: int
) -> dict[str, float]:
    """Summary over composed scenes, always the same ones; `score` chooses between checkpoints."""
    network.eval()
    counts = FinderCounts()
    for index in range(scenes):
        scene = compose(source, settings, np.random.default_rng([7, index]))
        counts.add(scene, detect_with_network(network, scene.image))
    rows = counts.summary()
    rows["score"] = (
        rows["recall"] - 2 * rows["landmark_error"] - 0.5 * rows["false_faces_per_picture"]
    )
    return rows
