"""Which cell answers for which face, and what the finder is punished for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from limen.anchors import BOX_CHANNELS, LANDMARK_CHANNELS, STRIDES_PX

SMALLEST_FACE_PX = 10.0
# Side of the faces (root of the area, px) that a map answers for; neighbours overlap.
FACE_SIDES_PX = ((0.0, 52.0), (36.0, 144.0), (76.0, float("inf")))
RADIUS_STRIDES = 1.5
FACE, BACKGROUND, IGNORED = 1, 0, -1


@dataclass(frozen=True)
class Targets:
    """For all M cells: kind (M,) int8 of FACE, BACKGROUND, IGNORED; boxes (M, 4) px and landmarks
    (M, 10) px of the cell's face, NaN where there is none or its landmarks are unknown.
    """

    kind: NDArray[np.int8]
    boxes_xyxy: NDArray[np.float32]
    landmarks_xy: NDArray[np.float32]


def assign(
    boxes_xyxy: NDArray[np.float32],
    landmarks_xy: NDArray[np.float32],
    ignored_xyxy: NDArray[np.float32],
    centres: NDArray[np.float32],
    strides: NDArray[np.float32],
) -> Targets:
    """Cells near a face's middle, on the maps for its size, answer for it.

    Larger faces first, so that a small face in front of a large one keeps its cells.
    """
    kind = np.full(len(centres), BACKGROUND, np.int8)
    boxes = np.full((len(centres), BOX_CHANNELS), np.nan, np.float32)
    landmarks = np.full((len(centres), LANDMARK_CHANNELS), np.nan, np.float32)
    for box in ignored_xyxy:
        kind[_inside(centres, box)] = IGNORED
    sides = np.sqrt(np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0), axis=1))
    for face in np.argsort(-sides):
        box, side = boxes_xyxy[face], float(sides[face])
        if side < SMALLEST_FACE_PX:
            kind[_inside(centres, box)] = IGNORED
            continue
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        distance = np.abs(centres - middle)
        for stride, (low, high) in zip(STRIDES_PX, FACE_SIDES_PX, strict=True):
            if not low <= side < high:
                continue
            on_map = strides == stride
            reach = np.minimum(RADIUS_STRIDES * stride, 0.7 * half)
            chosen = on_map & (distance <= np.maximum(reach, 0.5 * stride)).all(1)
            kind[chosen] = FACE
            boxes[chosen] = box
            landmarks[chosen] = landmarks_xy[face].reshape(-1)
    return Targets(kind, boxes, landmarks)


def _inside(centres: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(((centres >= box[:2]) & (centres <= box[2:])).all(1))


@dataclass(frozen=True)
class FinderLoss:
    """Quality focal loss on scores, generalised IoU on boxes, L1 on landmarks.

    The score learns the overlap of its own box with the face (Li et al., arXiv:2006.04388), so
    that non-maximum suppression keeps the best box; boxes follow Rezatofighi et al.,
    arXiv:1902.09630. Landmark errors are in units of the face's side. Where `least_quality` is
    above 0 the score learns q + (1 - q) * overlap: a turned or covered face, whose box nobody can
    say exactly, then stays apart from what might be none.
    """

    box_weight: float = 2.0
    landmark_weight: float = 10.0
    least_quality: float = 0.0

    def __call__(
        self,
        answers: Tensor,
        targets: tuple[Tensor, Tensor, Tensor],
        centres: Tensor,
        strides: Tensor,
    ) -> dict[str, Tensor]:
        """answers (N, M, 15) as the network gives them; centres (M, 2) and strides (M,) px.

        targets: kind (N, M) int8, boxes (N, M, 4) px, landmarks (N, M, 10) px. The parts' sum is
        the loss; each is an average over the cells that answer for a face.
        """
        kind, target_boxes, target_landmarks = targets
        scores, boxes, landmarks = torch.split(answers, [1, BOX_CHANNELS, LANDMARK_CHANNELS], 2)
        scores = scores.squeeze(2)
        face = kind == FACE
        count = face.sum().clamp(min=1)
        row, cell = face.nonzero(as_tuple=True)
        stride, centre = strides[cell, None], centres[cell]
        offset = boxes[row, cell]
        middle = centre + offset[:, :2] * stride
        half = offset[:, 2:].clamp(max=LARGEST_TRAINED_LOG_SIZE).exp() * stride / 2
        predicted = torch.cat([middle - half, middle + half], 1)
        wanted = target_boxes[row, cell]
        shared, generalised = overlaps(predicted, wanted)
        quality = torch.zeros_like(scores)
        least = self.least_quality
        quality[row, cell] = least + (1 - least) * shared.detach().clamp(0, 1)
        error = functional.binary_cross_entropy_with_logits(scores, quality, reduction="none")
        modulation = (scores.sigmoid().detach() - quality).square()
        score_loss = (error * modulation)[kind != IGNORED].sum() / count
        points = (target_landmarks[row, cell].view(-1, 5, 2) - centre[:, None]) / stride[..., None]
        known = ~points.isnan().any(dim=(1, 2)) if len(row) else face.new_zeros(0)
        side = (wanted[:, 2:] - wanted[:, :2]).clamp(min=1).prod(1).sqrt()
        landmark_error = (
            (landmarks[row, cell].view(-1, 5, 2) - points.nan_to_num()).abs().mean((1, 2))
        )
        landmark_error = landmark_error * stride[:, 0] / side
        return {
            "score": score_loss,
            "box": self.box_weight * (1 - generalised).sum() / count,
            "landmark": self.landmark_weight * landmark_error[known].sum() / count,
        }


LARGEST_TRAINED_LOG_SIZE = 4.0


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union and its generalised form of (n, 4) boxes, row by row; both (n,)."""
    low, high = (
        torch.maximum(first[:, :2], second[:, :2]),
        torch.minimum(first[:, 2:], second[:, 2:]),
    )
    shared = (high - low).clamp(min=0).prod(1)
    areas = (first[:, 2:] - first[:, :2]).prod(1) + (second[:, 2:] - second[:, :2]).prod(1)
    union = (areas - shared).clamp(min=1e-6)
    outer_low = torch.minimum(first[:, :2], second[:, :2])
    outer_high = torch.maximum(first[:, 2:], second[:, 2:])
    outer = (outer_high - outer_low).prod(1).clamp(min=1e-6)
    return shared / union, shared / union - (outer - union) / outer
