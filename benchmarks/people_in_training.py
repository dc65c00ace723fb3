"""Who of a test set looks like somebody the network was trained on?

    python benchmarks/people_in_training.py --data FACES --images LFW --yunet YUNET.onnx \
        --teacher SFACE.onnx --out left-out.txt

One picture of each person, found by YuNet and embedded by the teacher, against the mean of the
teacher's embeddings of each identity of part 'fit'. Prints how many are above each cosine, and the
same for the pictures of 'report', whose people are known to be others; writes the names at or above
`--cosine` for `limen evaluate --leave-out`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limen.alignment import align
from limen.images import read_picture
from limen.train.pictures import FIT, REPORT, open_pictures
from limen.train.prepare.teacher import SFaceTeacher
from limen.yunet import YuNetDetector

COSINES = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


def embed_people(
    images: Path, detector: YuNetDetector, teacher: SFaceTeacher
) -> tuple[list[str], NDArray[np.float32]]:
    """The first picture of each person: names, and (n, D) of the face nearest to its middle."""
    names, rows = [], []
    for path in sorted(images.rglob("*_0001.jpg")):
        picture = read_picture(path)
        faces = detector.detect(picture)
        if not faces:
            continue
        middle = np.array(picture.shape[1::-1]) / 2

        def off(face: object, middle: NDArray[np.float64] = middle) -> float:
            box = face.box_xyxy  # type: ignore[attr-defined]
            return float(np.linalg.norm((box[:2] + box[2:]) / 2 - middle))

        chosen = min(faces, key=off)
        rows.append(teacher.embed(align(picture, chosen.landmarks_xy)))
        names.append(path.parent.name)
    return names, np.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--data", "--images", "--yunet", "--teacher", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--cosine", type=float, default=0.6)
    options = parser.parse_args()
    fit = open_pictures(options.data, FIT)
    means = np.zeros((len(fit.names), 128), np.float32)
    np.add.at(means, fit.identity, fit.teachers["sface"])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    report = (open_pictures(options.data, REPORT).teachers["sface"] @ means.T).max(1)
    names, rows = embed_people(
        options.images, YuNetDetector(options.yunet), SFaceTeacher(options.teacher)
    )
    nearest = (rows @ means.T).max(1)
    print(f"{len(names)} people, {len(report)} pictures of part 'report'")
    for cosine in COSINES:
        print(f"{cosine}: {(nearest >= cosine).sum()} people, {(report >= cosine).sum()} pictures")
    chosen = [name for name, score in zip(names, nearest, strict=True) if score >= options.cosine]
    options.out.write_text("".join(f"{name}\n" for name in chosen), "utf-8")


if __name__ == "__main__":
    main()
