"""One picture into one crop, with what is needed to judge it: found, aligned, scored, embedded.

Finding, alignment, quality and embedding are core's own, so a training crop is what a door sees.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limen.alignment import CROP_PX, TEMPLATE_XY
from limen.bundle import open_bundle
from limen.detection import DetectedFace, Detector
from limen.embedder import Embedder
from limen.errors import LimenError, NoFaceError, PictureError
from limen.images import decode_picture, letterbox
from limen.quality import quality
from limen.recognition import FaceSample, acquire
from limen.train.prepare.sources import Reader, SourcePicture
from limen.train.prepare.teacher import SFaceTeacher

WEBP_QUALITY = 92
HASH_SIDE = 16  # coefficients a side, hence 256 bits
HASH_BYTES = HASH_SIDE * HASH_SIDE // 8


class Reason(StrEnum):
    """Why a picture gives no crop of its own."""

    UNREADABLE = "unreadable"
    NO_FACE = "no-face"
    SMALL_FACE = "small-face"


@dataclass(frozen=True, slots=True)
class CropSettings:
    """What shapes a crop. Two runs with the same settings give the same crops.

    aligned: pictures are crops already and are only scaled; min_face_px: width of the smallest
    face that is taken; bundle, runtime, precision, yunet: as for every verb; sface: a file of
    OpenCV Zoo's SFace whose embeddings are kept as a teacher's.
    """

    aligned: bool
    min_face_px: int
    bundle: Path | None = None
    runtime: str | None = None
    precision: str | None = None
    yunet: Path | None = None
    sface: Path | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A picture without a crop. digest: sha256 of its content where that could be read, else b''."""

    reason: str
    detail: str
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop and what it is judged by.

    encoded: WebP, (112, 112) RGB; digest: sha256 of the source's content, 32 bytes; hash_bits:
    (HASH_BYTES,) uint8, see `perceptual_hash`; embedding: (D,) float32, unit norm; teacher: (128,)
    float32, unit norm, or (0,); box_xyxy (4,) and landmarks_xy (5, 2) px in the source; faces: how
    many were seen there.
    """

    encoded: bytes
    digest: bytes
    hash_bits: NDArray[np.uint8]
    embedding: NDArray[np.float32]
    teacher: NDArray[np.float32]
    quality: float
    box_xyxy: NDArray[np.float32]
    landmarks_xy: NDArray[np.float32]
    faces: int


class CropMaker:
    """Makes crops in one process. Opening raises what `open_bundle` raises."""

    def __init__(self, settings: CropSettings, reader: Reader) -> None:
        # One thread each: the processes are the parallelism.
        cv2.setNumThreads(1)
        bundle = open_bundle(settings.bundle)
        self._settings = settings
        self._reader = reader
        self._detector: Detector = bundle.detector(settings.yunet)
        self._embedder: Embedder = bundle.embedder(
            settings.runtime, settings.precision, self._detector, threads=1
        )
        self._teacher = SFaceTeacher(settings.sface) if settings.sface else None
        self.model_id = self._embedder.model_id
        self.detector_id = self._detector.detector_id
        self.embedding_size = bundle.manifest.embedding_size
        self.teacher_size = self._teacher.size if self._teacher else 0

    def make(self, picture: SourcePicture) -> Crop | Dropped:
        """The crop of a picture, or why there is none. Nothing in a picture's bytes raises."""
        digest = b""
        try:
            content = self._reader.read(picture)
            digest = hashlib.sha256(content).digest()
            return self._crop(decode_picture(content), digest)
        except NoFaceError:
            return Dropped(Reason.NO_FACE, "no face was found", digest)
        except LimenError as error:
            return Dropped(Reason.UNREADABLE, _one_line(str(error)), digest)
        except Exception as error:  # decoders raise types of their own for hostile bytes
            return Dropped(Reason.UNREADABLE, f"cannot be decoded ({type(error).__name__})", digest)

    def _crop(self, image: NDArray[np.uint8], digest: bytes) -> Crop | Dropped:
        sample = (
            aligned_sample(image, self._embedder)
            if self._settings.aligned
            else acquire(image, self._detector, self._embedder)
        )
        if not self._settings.aligned and sample.face.width_px < self._settings.min_face_px:
            return Dropped(
                Reason.SMALL_FACE,
                f"{sample.face.width_px:.0f} px wide, {self._settings.min_face_px} px are asked for",
                digest,
            )
        if not np.isfinite(sample.embedding).all():
            raise PictureError("the embedder gave a vector without direction")
        teacher = self._teacher.embed(sample.crop) if self._teacher else np.zeros(0, np.float32)
        return Crop(
            encoded=encode_webp(sample.crop),
            digest=digest,
            hash_bits=perceptual_hash(sample.crop),
            embedding=sample.embedding,
            teacher=teacher,
            quality=sample.quality,
            box_xyxy=sample.face.box_xyxy,
            landmarks_xy=sample.face.landmarks_xy,
            faces=sample.faces,
        )


def aligned_sample(image: NDArray[np.uint8], embedder: Embedder) -> FaceSample:
    """The sample of an (H, W, 3) uint8 RGB picture that is an aligned crop already.

    Its face is taken to fill it, with the template's landmarks.
    """
    crop = letterbox(image, CROP_PX)
    side = float(max(image.shape[:2]))
    offset = (np.array(image.shape[1::-1], np.float32) - side) / 2
    face = DetectedFace(
        box_xyxy=np.array([0, 0, image.shape[1], image.shape[0]], np.float32),
        landmarks_xy=np.asarray(TEMPLATE_XY * (side / CROP_PX) + offset, np.float32),
        confidence=1.0,
    )
    return FaceSample(face, crop, embedder.embed(crop[None])[0], quality(face, crop), 1)


def encode_webp(crop: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    return buffer.getvalue()


def perceptual_hash(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """256 bits, packed as (32,) uint8, that light, size, blur and compression hardly change.

    The signs, against their median, of a crop's 16 x 16 lowest frequencies without the constant
    ones (discrete cosine transform of the grey crop at 64 x 64; after Zauner, 2010). Aligned faces
    are alike in their coarse parts, so 64 bits would not do: of 3 million pairs of different people
    the closest differed in 60 bits of 256, and copies with other light or compression in at most 32.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[1 : HASH_SIDE + 1, 1 : HASH_SIDE + 1].ravel()
    return np.packbits(low > np.median(low))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
