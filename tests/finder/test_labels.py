"""Labels of faces: the file, the labelling that goes on, and detectors that must agree."""

import json
from pathlib import Path

import numpy as np
import pytest

from limen.detection import DetectedFace
from limen.images import encode_jpeg
from limen.train.finder.consensus import match, overlap
from limen.train.finder.labelling import label_pictures
from limen.train.finder.labels import LabelError, Labels, append_labels, read_labels

NONE = np.zeros((0, 4), np.float32)


def labels(path: str, faces: int = 2) -> Labels:
    rng = np.random.default_rng(faces)
    landmarks = rng.uniform(0, 99, (faces, 5, 2)).astype(np.float32)
    landmarks[:1] = np.nan
    corner = rng.uniform(0, 50, (faces, 2))
    boxes = np.concatenate([corner, corner + 20], 1).astype(np.float32)
    return Labels(path, boxes, landmarks, boxes[:1] + 60)


def test_labels_survive_their_line() -> None:
    first = labels("a/ä.jpg")
    again = Labels.from_json(first.to_json())
    assert again.path == first.path
    for name in ("boxes_xyxy", "landmarks_xy", "ignored_xyxy"):
        assert np.allclose(getattr(again, name), getattr(first, name), atol=0.01, equal_nan=True)


def test_a_line_that_was_cut_is_taken_up_again(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    list(append_labels(file, [labels("a.jpg"), labels("b.jpg")]))
    file.write_bytes(file.read_bytes()[:-20])
    assert [each.path for each in read_labels(file)] == ["a.jpg"]
    list(append_labels(file, [labels("b.jpg"), labels("c.jpg")]))
    assert [each.path for each in read_labels(file)] == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"path": "a.jpg"}',
        json.dumps(
            {"path": 3, "boxes_xyxy": [], "landmarks_xy": [], "ignored_xyxy": []},
        ),
        json.dumps(
            {"path": "a", "boxes_xyxy": [[1, 2, 3]], "landmarks_xy": [None], "ignored_xyxy": []},
        ),
        json.dumps(
            {"path": "a", "boxes_xyxy": [[0, 0, 9, 9]], "landmarks_xy": [], "ignored_xyxy": []},
        ),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(labels("a.jpg").to_json() + "\n" + line + "\n" + labels("b.jpg").to_json())
    with pytest.raises(LabelError, match="line 2: not a line of face labels"):
        read_labels(file)


def test_labels_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(tmp_path / "none.jsonl")


def test_labelling_goes_on_where_it_was_and_passes_over_what_is_no_picture(tmp_path: Path) -> None:
    pictures = []
    for number in range(4):
        pictures.append(tmp_path / f"{number}.jpg")
        pictures[-1].write_bytes(encode_jpeg(np.full((40, 40, 3), 50 * number, np.uint8)))
    pictures.insert(2, tmp_path / "broken.jpg")
    pictures[2].write_bytes(b"\xff\xd8 no picture")
    out = tmp_path / "labels" / "all.jsonl"
    asked: list[str] = []

    def label(image: np.ndarray, path: str) -> Labels:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(path)
        return labels(path)

    with pytest.raises(KeyboardInterrupt):
        label_pictures(pictures, out, label)
    asked.clear()
    report = label_pictures(pictures, out, label)
    assert asked == ["../2.jpg", "../3.jpg"]
    assert (report.pictures, report.already_labelled, report.unreadable) == (2, 2, 1)
    assert (report.faces, report.faces_with_landmarks, report.ignored) == (4, 2, 2)
    assert [each.path for each in read_labels(out)] == [f"../{n}.jpg" for n in range(4)]


def face(left: float, top: float, side: float) -> DetectedFace:
    box = np.array([left, top, left + side, top + side], np.float32)
    return DetectedFace(box, np.zeros((5, 2), np.float32), 0.9)


def test_faces_and_boxes_are_paired_once_each_by_overlap() -> None:
    faces = [face(0, 0, 100), face(300, 0, 50)]
    boxes = [
        np.array([200, 200, 220, 220], np.float32),
        np.array([8, 0, 108, 100], np.float32),
        np.array([40, 0, 140, 100], np.float32),
    ]
    pairs, lone_faces, lone_boxes = match(faces, boxes)
    assert [(f.box_xyxy[0], b[0]) for f, b in pairs] == [(0, 8)]
    assert lone_faces == [faces[1]]
    assert [b[0] for b in lone_boxes] == [200, 40]


def test_overlap_of_boxes_that_touch_and_of_none() -> None:
    box = np.array([0, 0, 10, 10], np.float32)
    assert overlap(box, box) == pytest.approx(1)
    assert overlap(box, box + 10) == 0
    assert overlap(box, box + np.array([5, 0, 5, 0], np.float32)) == pytest.approx(1 / 3)
    assert overlap(box * 0, box * 0) == 0


def test_teachers_that_are_no_detectors_are_refused(tmp_path: Path) -> None:
    from limen.errors import BundleError
    from limen.train.finder.consensus import Consensus, Teachers

    nonsense = tmp_path / "yunet.onnx"
    nonsense.write_bytes(b"no graph")
    with pytest.raises(BundleError, match="no ONNX file"):
        Consensus(Teachers(nonsense, nonsense))
