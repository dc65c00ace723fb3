"""The interim finder, on pictures that PyPI wheels carry."""

import cv2
import numpy as np
import pytest

from limen.bundle import open_bundle
from limen.detection import nearest_face
from limen.errors import NoFaceError, RuntimeUnavailableError
from limen.finder import FinderDetector
from limen.haar import MEAN_SHAPE, HaarDetector, shape_from_eyes

data = pytest.importorskip("skimage.data", reason="scikit-image carries the picture")
cascades = pytest.mark.skipif(
    not hasattr(cv2, "CascadeClassifier"), reason="this OpenCV carries no cascades"
)


@cascades
def test_the_astronauts_face_and_eyes_are_found() -> None:
    face = nearest_face(HaarDetector().detect(data.astronaut()))
    assert 150 < face.box_xyxy[0] < 200
    assert 70 < face.width_px < 130
    # Where a person sees her eyes: (202, 101) and (247, 102), within a twentieth of the face.
    assert np.abs(face.landmarks_xy[:2] - [[202, 101], [247, 102]]).max() < 6


@cascades
@pytest.mark.parametrize("scene", ["brick", "grass", "coffee", "page"])
def test_no_face_is_found_where_there_is_none(scene: str) -> None:
    image = getattr(data, scene)()
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    assert HaarDetector().detect(image) == []
    with pytest.raises(NoFaceError, match="face the camera"):
        nearest_face([])


@cascades
def test_of_six_faces_the_nearest_counts() -> None:
    portrait = data.astronaut()[40:200, 140:310]
    small = portrait[::2, ::2]
    image = np.full((480, 640, 3), 128, np.uint8)
    for column in range(5):
        image[20 : 20 + small.shape[0], 20 + column * 120 : 20 + column * 120 + small.shape[1]] = (
            small
        )
    image[250 : 250 + portrait.shape[0], 200 : 200 + portrait.shape[1]] = portrait
    faces = HaarDetector().detect(image)
    assert len(faces) == 6
    assert nearest_face(faces).box_xyxy[1] > 240


def test_eyes_in_their_usual_place_leave_the_mean_shape_alone() -> None:
    assert np.allclose(shape_from_eyes(MEAN_SHAPE[:2]), MEAN_SHAPE, atol=1e-3)


def test_an_opencv_without_cascades_serves_a_bundle_that_carries_a_finder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(cv2, "CascadeClassifier", raising=False)  # as in OpenCV 5
    with pytest.raises(RuntimeUnavailableError, match="opencv-python-headless<5"):
        HaarDetector()
    finder = open_bundle().detector()
    assert isinstance(finder, FinderDetector)
    face = nearest_face(finder.detect(data.astronaut()))
    assert np.abs(face.landmarks_xy[:2] - [[202, 101], [247, 102]]).max() < 8
