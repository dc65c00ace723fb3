"""How well a bundle's finder finds, beside YuNet: people, distances, pictures without a face.

    python benchmarks/finder_accuracy.py BUNDLE.limen YUNET.onnx --labels LABELS.jsonl \
        [--only NAMES] [--portraits LFW.jsonl] [--json]

--labels: of 'limen label'; only pictures held out from training are used, or, with --only, those
whose names that file lists. --portraits: labels of pictures of one person each, such as LFW's; the
share of the persons' boxes that are found. "As at the door" is with second looks, at doubtful faces
and at the nearest. The 1,000 pictures without a face are crops of
scikit-image's and scikit-learn's scenes and textures and of backgrounds in the labelled pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from limen.bundle import open_bundle
from limen.detection import Detector
from limen.finder import MOST_DOUBTS, FinderDetector
from limen.images import read_picture
from limen.train.finder.labels import read_labels
from limen.train.finder.report import HalfSize, Recall, backgrounds, crops, person_of, recall_at
from limen.train.finder.source import LabelledPictures, is_held_out
from limen.yunet import YuNetDetector

SIZES_PX = (160, 80, 48, 32)
NO_FACE_PX = (240, 320)
NO_FACE_PICTURES = 1000
SEED = 11
SCENES = (
    "brick",
    "coffee",
    "coins",
    "clock",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "page",
    "rocket",
    "text",
    "checkerboard",
    "horse",
    "retina",
    "colorwheel",
    "cell",
    "chelsea",
    "logo",
    "eagle",
    "lily",
)


def main() -> None:
    """Print one table a question, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("yunet", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--only", type=Path)
    parser.add_argument("--portraits", type=Path)
    parser.add_argument("--precision")
    parser.add_argument("--runtime")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)

    bundle = open_bundle(arguments.bundle)

    def finder(closer_looks: int, doubts: int) -> Detector:
        detector = bundle.detector(runtime=arguments.runtime, precision=arguments.precision)
        assert isinstance(detector, FinderDetector)
        return detector.looking_closer(closer_looks, doubts)

    yunet = YuNetDetector(arguments.yunet)
    finders = {
        "finder, one look": finder(0, 0),
        "finder as at the door": finder(1, MOST_DOUBTS),
    }
    detectors: dict[str, Detector] = {
        **finders,
        "YuNet at 320 x 240": HalfSize(yunet),
        "YuNet at 640 x 480": yunet,
    }
    held_out = _held_out(arguments.labels, arguments.only)
    found: dict[str, Any] = {"held_out_pictures": len(held_out)}
    for name, detector in detectors.items():
        found[name] = {
            f"{size} px": recall_at(held_out, detector, size, arguments.frames, SEED).summary()
            for size in SIZES_PX
        }
    nothing = list(_without_a_face(held_out))
    found["false_faces"] = {"pictures": len(nothing)} | {
        name: sum(len(detector.detect(image)) for image in nothing)
        for name, detector in {**finders, "YuNet": yunet}.items()
    }
    if arguments.portraits:
        found["portraits"] = _portraits(arguments.portraits, {**finders, "YuNet": yunet})
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    _print(found)


def _held_out(labels: Path, only: Path | None) -> LabelledPictures:
    names = set(only.read_text("utf-8").split()) if only else None
    return LabelledPictures(
        [
            each
            for each in read_labels(labels)
            if (Path(each.path).name in names if names is not None else is_held_out(each.path))
        ],
        labels.parent,
    )


def _without_a_face(source: LabelledPictures) -> Iterator[NDArray[np.uint8]]:
    pictures = list(_scenes())
    half = NO_FACE_PICTURES // 2
    yield from crops(pictures, half, NO_FACE_PX, SEED)
    yield from backgrounds(source, NO_FACE_PICTURES - half, NO_FACE_PX, SEED)


def _scenes() -> Iterator[NDArray[np.uint8]]:
    import skimage.data
    from sklearn.datasets import load_sample_images

    for name in SCENES:
        try:
            picture = np.asarray(getattr(skimage.data, name)())
        except Exception:  # not every release carries every picture, and nothing is downloaded
            continue
        if picture.dtype == bool:
            picture = picture.astype(np.uint8) * 255
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, 2)
        yield np.ascontiguousarray(picture[..., :3], np.uint8)
    yield from (np.asarray(picture, np.uint8) for picture in load_sample_images().images)


def _portraits(file: Path, detectors: dict[str, Detector]) -> dict[str, Any]:
    counts = {name: Recall() for name in detectors}
    unlabelled = 0
    for labels in read_labels(file):
        image = read_picture(file.parent / labels.path)
        person = person_of(labels, image.shape[:2])
        if person is None:
            unlabelled += 1
            continue
        for name, detector in detectors.items():
            counts[name].add(
                labels.boxes_xyxy[person], labels.landmarks_xy[person], detector.detect(image)
            )
    return {"without_consensus": unlabelled} | {k: v.summary() for k, v in counts.items()}


def _print(found: dict[str, Any]) -> None:
    print(f"{found['held_out_pictures']} pictures held out; recall / mean landmark error")
    for name, sizes in found.items():
        if not isinstance(sizes, dict) or "160 px" not in sizes:
            continue
        cells = [
            f"{size}: {row['recall']:.3f} / {row['mean_landmark_error'] or float('nan'):.3f}"
            for size, row in sizes.items()
        ]
        print(f"{name:26} " + "   ".join(cells))
    print("false faces:", found["false_faces"])
    for name, row in found.get("portraits", {}).items():
        print("portraits:", name, row)


if __name__ == "__main__":
    main()
