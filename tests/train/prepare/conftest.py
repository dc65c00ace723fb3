"""Two people, in takes that are no copies of each other, and files in InsightFace's format."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from limen.images import encode_jpeg, read_picture
from limen.train.prepare.judging import Rules
from limen.train.prepare.recordio import MAGIC


def take(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Take `number` of a picture: as it is, mirrored, and each of them under its own noise."""
    turned = image[:, ::-1] if number % 2 else image
    if number < 2:
        return np.ascontiguousarray(turned)
    noise = np.random.default_rng(number).normal(0, 60, image.shape)
    return np.clip(turned + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def faces() -> dict[str, NDArray[np.uint8]]:
    data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib carries another")
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return {"eileen": data.astronaut()[:320, 60:400], "grace": read_picture(hopper)[20:420, 60:460]}


@pytest.fixture(scope="session")
def people(faces: dict[str, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/IDENTITY/PICTURE: two people, four takes each. Not to be changed; copy it."""
    folder = tmp_path_factory.mktemp("people")
    for name, image in faces.items():
        (folder / name).mkdir()
        for number in range(4):
            content = encode_jpeg(take(image, number))
            (folder / name / f"{number}.jpg").write_bytes(content)
    return folder


class RecordFile:
    """Writes `train.rec` and `train.idx` as mxnet's writer does (dmlc-core, recordio.h)."""

    def __init__(self) -> None:
        self.content = b""
        self.offsets: dict[int, int] = {}

    def add(self, key: int, labels: Sequence[float], picture: bytes = b"") -> None:
        head = (
            struct.pack("<IfQQ", 0, labels[0], key, 0)
            if len(labels) == 1
            else struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0.0, key, 0, *labels)
        )
        self.offsets[key] = len(self.content)
        body, magic, begin = head + picture, struct.pack("<I", MAGIC), 0
        for at in range(0, len(body) // 4 * 4, 4):
            if body[at : at + 4] == magic:
                self._piece(2 if begin else 1, body[begin:at])
                begin = at + 4
        self._piece(3 if begin else 0, body[begin:])

    def _piece(self, kind: int, body: bytes) -> None:
        self.content += struct.pack("<II", MAGIC, kind << 29 | len(body)) + body
        self.content += bytes(-len(body) % 4)

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "train.rec").write_bytes(self.content)
        lines = [f"{key}\t{offset}\n" for key, offset in self.offsets.items()]
        (folder / "train.idx").write_text("".join(lines))
        return folder


@pytest.fixture
def record_file() -> RecordFile:
    """A file without a record yet."""
    return RecordFile()


@pytest.fixture
def insightface() -> Callable[[dict[int, Sequence[bytes]]], RecordFile]:
    """Makes a file of pictures by identity's number."""
    return _insightface


@pytest.fixture
def by_hash() -> Rules:
    """Rules by which two takes are near where their hashes are, so that a face finder or embedder
    that is better or worse does not change what a test sees."""
    return Rules(near_score=1.0)


def _insightface(pictures: dict[int, Sequence[bytes]]) -> RecordFile:
    """A file with pictures by identity's number, laid out as InsightFace's data sets are."""
    file = RecordFile()
    count = sum(map(len, pictures.values()))
    file.add(0, [count + 1, count + 1 + len(pictures)])
    key = 1
    ranges = []
    for number, contents in pictures.items():
        ranges.append((key, key + len(contents)))
        for content in contents:
            file.add(key, [float(number)], content)
            key += 1
    for bounds in ranges:
        file.add(key, bounds)
        key += 1
    return file
