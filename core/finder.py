"""limen's own face finder: one graph, one look at the whole picture, a second at each near face.

The graph takes a picture of a fixed size. Any other is scaled to fit, its sides in proportion, and
the rest is left black. Landmarks decide how well an embedder works, and a large picture loses half
of its pixels or more in the first look; so the nearest faces are looked at again, close up.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.anchors import CELL_CHANNELS, cells, decode, overlaps
from limen.detection import DetectedFace
from limen.errors import BundleError
from limen.runtimes import Session
from limen.scaling import Scaling

FINDER_VERSION = 2  # raised when the same answers become other landmarks
LARGEST_ENLARGEMENT = 2.0  # of a small picture in the first look
CLOSE_UP_SHARE = 0.5  # a face's longer side, of the input's shorter side, in the second look
MIRRORED = np.array([1, 0, 2, 4, 3])  # landmarks
WORTH_A_SECOND_LOOK = 1.25  # the second look must show a face this much larger
SAME_FACE = 0.5  # overlap of the two looks
# A face of which the first look is in doubt is looked at again, mirrored, before it is believed:
# docs/finder.md, "In doubt".
DOUBT_FROM, DOUBT_TO = 0.8, 1.2  # confidence, by the least that is asked for
SEEN_FROM = 0.4  # in the second look, below which nothing was seen
SECOND_WEIGHT = 2 / 3  # of the mirrored look, against a third for the first
MOST_DOUBTS = 2  # in a frame, the surest first: what a frame may cost at most
DOUBTED_SHARE = 0.45  # as CLOSE_UP_SHARE; another scale errs differently
# Galleries outlive a version: what each made of a finder's answers, for `limen.device.former`.
DOUBTS_BY_VERSION = {1: 0, FINDER_VERSION: MOST_DOUBTS}


@dataclass(frozen=True, slots=True)
class FinderInput:
    """What a finder's graph takes. Sides are multiples of 32 px; layout is 'NCHW' or 'NHWC'."""

    height_px: int
    width_px: int
    layout: str
    scaling: Scaling


@dataclass(frozen=True, slots=True)
class Window:
    """Where a part of a picture lies in the graph's input: input = scale * picture + shift.

    Both are (x, y). Pixels are counted by their middles.
    """

    scale_xy: tuple[float, float]
    shift_xy: tuple[float, float]

    def to_picture(self, face: DetectedFace) -> DetectedFace:
        """A face of the input as one of the picture."""
        scale = np.asarray(self.scale_xy, np.float32)
        shift = np.asarray(self.shift_xy, np.float32)
        return replace(
            face,
            box_xyxy=((face.box_xyxy.reshape(2, 2) - shift) / scale).reshape(4),
            landmarks_xy=(face.landmarks_xy - shift) / scale,
        )


class FinderDetector:
    """Faces by a bundle's own graph. Not safe to share between threads."""

    def __init__(
        self,
        session: Session,
        spec: FinderInput,
        detector_id: str,
        min_confidence: float,
        closer_looks: int = 1,
        doubts: int = MOST_DOUBTS,
    ) -> None:
        """closer_looks: how many of the largest faces are looked at again; 0 for none.

        doubts: how many doubtful faces of a picture are looked at again before they are believed;
        with 0 the first look decides.
        """
        self._session = session
        self._input = spec
        self._detector_id = detector_id
        self._min_confidence = min_confidence
        self._closer_looks = closer_looks
        self._doubts = doubts
        self._cells = len(cells(spec.height_px, spec.width_px)[0])

    @property
    def detector_id(self) -> str:
        return self._detector_id

    def looking_closer(self, closer_looks: int, doubts: int | None = None) -> FinderDetector:
        """The same finder with so many second looks; what shapes the landmarks changes with it."""
        other = copy.copy(self)
        other._closer_looks = closer_looks
        other._doubts = self._doubts if doubts is None else doubts
        return other

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedFace]:
        """All faces, largest first. BundleError where the graph gives no answers for its cells."""
        spec = self._input
        canvas, window = fit(image, spec.height_px, spec.width_px)
        least = self._min_confidence
        low, high = (DOUBT_FROM * least, DOUBT_TO * least) if self._doubts else (least, least)
        seen = [window.to_picture(face) for face in self._look(canvas, low)]
        faces = [face for face in seen if face.confidence >= high]
        for index, face in enumerate(faces[: self._closer_looks]):
            faces[index] = self._look_closer(image, face, max(window.scale_xy))
        doubtful = sorted(
            (face for face in seen if face.confidence < high), key=lambda face: -face.confidence
        )
        looked = (self._look_mirrored(image, face) for face in doubtful[: self._doubts])
        faces += [face for face in looked if face is not None]
        # Who is not looked at again counts by the first look: nobody vanishes from a group.
        faces += [face for face in doubtful[self._doubts :] if face.confidence >= least]
        return sorted(faces, key=lambda face: -face.area_px)

    def _look_mirrored(self, image: NDArray[np.uint8], face: DetectedFace) -> DetectedFace | None:
        """A doubtful face and what its mirror shows close up, as one; None where that shows
        nothing, or the two together are not sure enough.
        """
        spec = self._input
        side_px = float((face.box_xyxy[2:] - face.box_xyxy[:2]).max())
        scale = DOUBTED_SHARE * min(spec.height_px, spec.width_px) / max(side_px, 1.0)
        scale = min(scale, LARGEST_ENLARGEMENT)
        canvas, window = close_up(image, face.box_xyxy, scale, spec.height_px, spec.width_px)
        least = self._min_confidence
        seen = self._look(np.ascontiguousarray(canvas[:, ::-1]), SEEN_FROM * least)
        other = _same_face(face, [window.to_picture(mirrored(f, spec.width_px)) for f in seen])
        if other is None:
            return None
        confidence = face.confidence + SECOND_WEIGHT * (other.confidence - face.confidence)
        if confidence < least:
            return None
        weight = np.float32(SECOND_WEIGHT)
        return DetectedFace(
            face.box_xyxy + weight * (other.box_xyxy - face.box_xyxy),
            face.landmarks_xy + weight * (other.landmarks_xy - face.landmarks_xy),
            confidence,
        )

    def _look_closer(
        self, image: NDArray[np.uint8], face: DetectedFace, scale: float
    ) -> DetectedFace:
        spec = self._input
        side_px = float((face.box_xyxy[2:] - face.box_xyxy[:2]).max())
        closer = CLOSE_UP_SHARE * min(spec.height_px, spec.width_px) / max(side_px, 1.0)
        # Enlarging shows nothing new.
        closer = min(closer, max(1.0, scale))
        if closer < WORTH_A_SECOND_LOOK * scale:
            return face
        canvas, window = close_up(image, face.box_xyxy, closer, spec.height_px, spec.width_px)
        seen = self._look(canvas, self._min_confidence)
        other = _same_face(face, [window.to_picture(found) for found in seen])
        if other is None:
            return face
        return replace(other, confidence=max(face.confidence, other.confidence))

    def _look(self, canvas: NDArray[np.uint8], min_confidence: float) -> list[DetectedFace]:
        spec = self._input
        batch = spec.scaling.apply(canvas)[None]
        if spec.layout == "NCHW":
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        answers = self._session.run(batch)
        if answers.shape != (1, self._cells, CELL_CHANNELS):
            raise BundleError(
                f"the finder's graph answers {answers.shape}, expected "
                f"{(1, self._cells, CELL_CHANNELS)}: export the bundle again"
            )
        return decode(answers[0], spec.height_px, spec.width_px, min_confidence)


def _same_face(face: DetectedFace, seen: list[DetectedFace]) -> DetectedFace | None:
    if not seen:
        return None
    shared = overlaps(face.box_xyxy, np.stack([found.box_xyxy for found in seen]))
    best = int(shared.argmax())
    return seen[best] if shared[best] >= SAME_FACE else None


def mirrored(face: DetectedFace, width_px: int) -> DetectedFace:
    """A face in the mirror of a canvas; the landmark on the picture's left stays first."""
    last = width_px - 1  # pixels are counted by their middles
    left, top, right, bottom = face.box_xyxy
    return replace(
        face,
        box_xyxy=np.array([last - right, top, last - left, bottom], np.float32),
        landmarks_xy=(face.landmarks_xy[MIRRORED] * [-1, 1] + [last, 0]).astype(np.float32),
    )


def fit(
    image: NDArray[np.uint8], height_px: int, width_px: int
) -> tuple[NDArray[np.uint8], Window]:
    """All of `image` in the upper left of a (height_px, width_px, 3) canvas, and where it lies."""
    height, width = image.shape[:2]
    scale = min(height_px / height, width_px / width, LARGEST_ENLARGEMENT)
    inner = (
        min(width_px, max(1, round(width * scale))),
        min(height_px, max(1, round(height * scale))),
    )
    canvas = np.zeros((height_px, width_px, 3), np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[: inner[1], : inner[0]] = (
        image if inner == (width, height) else cv2.resize(image, inner, interpolation=method)
    )
    x, y = inner[0] / width, inner[1] / height
    return canvas, Window((x, y), ((x - 1) / 2, (y - 1) / 2))


def close_up(
    image: NDArray[np.uint8],
    box_xyxy: NDArray[np.float32],
    scale: float,
    height_px: int,
    width_px: int,
) -> tuple[NDArray[np.uint8], Window]:
    """A (height_px, width_px, 3) canvas of a box's surroundings at `scale`, its middle in the
    canvas's, and where it lies.
    """
    middle = (box_xyxy[:2] + box_xyxy[2:]) / 2
    shift = np.array([width_px / 2, height_px / 2]) - scale * middle
    if scale < 0.5:  # a warp reads four pixels only: average before it
        low = np.clip(np.floor(-shift / scale), 0, np.array(image.shape[1::-1]) - 1).astype(int)
        high = np.ceil((np.array([width_px, height_px]) - shift) / scale).astype(int) + 1
        part = image[low[1] : high[1], low[0] : high[0]]
        inner = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
        image = np.asarray(cv2.resize(part, inner, interpolation=cv2.INTER_AREA), np.uint8)
        moved = scale * low + shift + (1 - scale) / 2
        matrix = np.array([[1, 0, moved[0]], [0, 1, moved[1]]], np.float64)
    else:
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64)
    canvas = cv2.warpAffine(image, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR)
    return np.asarray(canvas, np.uint8), Window((scale, scale), (float(shift[0]), float(shift[1])))
