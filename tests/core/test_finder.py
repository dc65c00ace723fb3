"""The detector around a finder's graph, with a graph whose answers are known."""

import cv2
import numpy as np
import pytest

from limen.anchors import CELL_CHANNELS, cells
from limen.detection import DetectedFace
from limen.errors import BundleError
from limen.finder import FinderDetector, FinderInput, close_up, fit
from limen.scaling import Scaling

HEIGHT, WIDTH = 128, 160
SPEC = FinderInput(HEIGHT, WIDTH, "NHWC", Scaling(0, 1))


class SquareFinder:
    """A stand-in for a graph: takes the brightest square for a face, its corners for landmarks."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.logits = [4.0]  # look after look, the last one again and again

    def run(self, batch: np.ndarray) -> np.ndarray:
        (image,) = batch if batch.shape[-1] == 3 else batch.transpose(0, 2, 3, 1)
        self.seen.append(image)
        logit = self.logits[min(len(self.seen), len(self.logits)) - 1]
        centres, strides = cells(HEIGHT, WIDTH)
        answers = np.zeros((1, len(centres), CELL_CHANNELS), np.float32)
        answers[..., 0] = -9
        weight = np.clip(image[..., 0] / 255, 0, 1)
        total = weight.sum()
        if total < 4:
            return answers
        x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        middle = np.array([(weight * x).sum(), (weight * y).sum()]) / total
        side = np.sqrt(total)
        cell = int(np.abs(centres - middle).sum(1)[strides == 8].argmin())
        corners = middle + side / 2 * np.array([[-1, -1], [1, -1], [0, 0], [-1, 1], [1, 1]])
        answers[0, cell, 0] = logit
        answers[0, cell, 1:3] = (middle - centres[cell]) / 8
        answers[0, cell, 3:5] = np.log(side / 8)
        answers[0, cell, 5:] = ((corners - centres[cell]) / 8).reshape(-1)
        return answers


def finder(closer_looks: int = 1, spec: FinderInput = SPEC) -> tuple[FinderDetector, SquareFinder]:
    graph = SquareFinder()
    return FinderDetector(graph, spec, "square-1", 0.5, closer_looks), graph


def picture_with_square(
    height: int, width: int, left: float, top: float, side: float
) -> np.ndarray:
    """A white square on black, its corners anywhere between the pixels."""
    fine = 8
    image = np.zeros((height * fine, width * fine, 3), np.uint8)
    begin, end = (round(top * fine), round(left * fine)), round(side * fine)
    image[begin[0] : begin[0] + end, begin[1] : begin[1] + end] = 255
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize(
    ("height", "width"), [(128, 160), (480, 640), (1080, 1920), (250, 250), (90, 70), (700, 300)]
)
@pytest.mark.parametrize("closer_looks", [0, 1])
def test_a_face_is_found_where_it_is_at_any_frame_size(
    height: int, width: int, closer_looks: int
) -> None:
    side = min(height, width) / 3
    left, top = width * 0.45, height * 0.3
    image = picture_with_square(height, width, left, top, side)
    (face,) = finder(closer_looks)[0].detect(image)
    # Pixels are counted by their middles: an edge at 10.0 lies at 9.5.
    corner = np.array([left, top]) - 0.5
    assert np.abs(face.box_xyxy[:2] - corner).max() < 0.02 * side
    assert np.abs(face.landmarks_xy[4] - (corner + side)).max() < 0.02 * side


def test_a_small_face_in_a_large_picture_is_looked_at_again_close_up() -> None:
    image = picture_with_square(960, 1280, 700, 500, 90)
    detector, graph = finder(closer_looks=1)
    (face,) = detector.detect(image)
    assert len(graph.seen) == 2
    shown = np.sqrt((graph.seen[1][..., 0] / 255).sum())
    assert shown == pytest.approx(64, rel=0.05)  # half of the input's shorter side
    assert np.abs(face.landmarks_xy[0] - 0.5 - [699.0, 499.0]).max() < 1
    assert len(finder(0)[1].seen) == 0


def test_a_large_face_is_not_looked_at_again() -> None:
    detector, graph = finder(closer_looks=1)
    detector.detect(picture_with_square(128, 160, 40, 20, 80))
    assert len(graph.seen) == 1


def logit(confidence: float) -> float:
    return float(np.log(confidence / (1 - confidence)))


@pytest.mark.parametrize(
    ("first", "second", "looks", "confidence"),
    [
        (0.9, 0.1, 1, 0.9),  # sure enough: no second look
        (0.45, 0.69, 2, 0.61),  # in doubt, then confirmed: the second look counts twice
        (0.55, 0.4, 2, None),  # above the least that is asked for, and not confirmed
        (0.45, 0.15, 2, None),  # nothing seen in the mirror
        (0.35, 0.9, 1, None),  # not even in doubt
    ],
)
def test_a_doubtful_face_is_believed_when_its_mirror_says_so(
    first: float, second: float, looks: int, confidence: float | None
) -> None:
    detector, graph = finder(closer_looks=0)
    graph.logits = [logit(first), logit(second)]
    left, top, side = 60.0, 30.0, 40.0
    found = detector.detect(picture_with_square(128, 160, left, top, side))
    assert len(graph.seen) == looks
    if confidence is None:
        assert found == []
        return
    (face,) = found
    assert face.confidence == pytest.approx(confidence, abs=1e-5)
    assert np.abs(face.box_xyxy - [left, top, left + side, top + side] + 0.5).max() < 1
    corner = np.array([left, top]) - 0.5
    expected = corner + side * np.array([[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1]])
    assert np.abs(face.landmarks_xy - expected).max() < 1


def test_who_is_not_looked_at_again_counts_by_the_first_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector, _ = finder(closer_looks=0)
    detector = detector.looking_closer(0, doubts=1)
    first = [
        DetectedFace(
            np.array([x, 10, x + 20, 30], np.float32), np.zeros((5, 2), np.float32), confidence
        )
        for x, confidence in ((10.0, 0.59), (50.0, 0.55), (90.0, 0.45))
    ]
    looks = iter([first, []])  # the surest is looked at again, and not seen
    monkeypatch.setattr(detector, "_look", lambda *_: next(looks))
    found = detector.detect(np.zeros((128, 160, 3), np.uint8))
    assert [round(face.confidence, 2) for face in found] == [0.55]


def test_without_doubts_the_first_look_decides() -> None:
    detector, graph = finder(closer_looks=0)
    graph.logits = [logit(0.55), logit(0.1)]
    (face,) = detector.looking_closer(0, doubts=0).detect(picture_with_square(128, 160, 60, 30, 40))
    assert face.confidence == pytest.approx(0.55, abs=1e-5)
    assert len(graph.seen) == 1


def test_a_blank_picture_holds_no_face() -> None:
    detector, graph = finder()
    assert detector.detect(np.zeros((480, 640, 3), np.uint8)) == []
    assert len(graph.seen) == 1


def test_a_second_look_that_finds_nothing_keeps_the_first() -> None:
    detector, graph = finder(closer_looks=1)
    image = picture_with_square(960, 1280, 700, 500, 90)
    whole = graph.run

    def blind_at_second(batch: np.ndarray) -> np.ndarray:
        return whole(batch if not graph.seen else batch * 0)

    graph.run = blind_at_second  # type: ignore[method-assign]
    (face,) = detector.detect(image)
    assert len(graph.seen) == 2
    assert abs(face.box_xyxy[0] - 700) < 4


def test_the_graphs_layout_is_given_what_it_wants() -> None:
    image = picture_with_square(128, 160, 40, 20, 48)
    (nhwc,) = finder()[0].detect(image)
    (nchw,) = finder(spec=FinderInput(HEIGHT, WIDTH, "NCHW", Scaling(0, 1)))[0].detect(image)
    assert np.array_equal(nhwc.landmarks_xy, nchw.landmarks_xy)


def test_a_graph_of_another_kind_is_refused() -> None:
    class Embedder:
        def run(self, batch: np.ndarray) -> np.ndarray:
            return np.zeros((1, 128), np.float32)

    detector = FinderDetector(Embedder(), SPEC, "wrong", 0.5)
    with pytest.raises(BundleError, match=r"answers \(1, 128\), expected \(1, 420, 15\)"):
        detector.detect(np.zeros((128, 160, 3), np.uint8))


def test_fit_and_close_up_tell_where_a_pixel_went() -> None:
    rng = np.random.default_rng(2)
    image = cv2.GaussianBlur(rng.integers(0, 256, (300, 500, 3)).astype(np.uint8), (0, 0), 6)
    canvas, window = fit(image, HEIGHT, WIDTH)
    box = np.array([200, 100, 300, 200], np.float32)
    close, near = close_up(image, box, 0.8, HEIGHT, WIDTH)
    far, away = close_up(image, box, 0.3, HEIGHT, WIDTH)
    for shown, place in ((canvas, window), (close, near), (far, away)):
        x, y = (
            round(scale * at + shift)
            for scale, shift, at in zip(place.scale_xy, place.shift_xy, (250, 150), strict=True)
        )
        assert np.abs(shown[y, x].astype(int) - image[150, 250]).max() <= 6
