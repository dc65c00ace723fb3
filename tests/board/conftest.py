"""What the stand-ins for a board share: pictures of two people who are not in this project."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from limen.images import encode_jpeg

sys.path.insert(0, str(Path(__file__).parent))  # the stand-ins beside the tests


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """person-0.jpg … person-3.jpg of somebody in changing light, and other.jpg of another."""
    data = pytest.importorskip("skimage.data", reason="scikit-image carries a picture of a person")
    cbook = pytest.importorskip("matplotlib.cbook", reason="matplotlib carries another")
    folder = tmp_path_factory.mktemp("people")
    person, rng = data.astronaut()[:320, 60:400], np.random.default_rng(1)
    for number in range(4):
        lit = person * (0.9 + 0.03 * number) + rng.normal(0, 2, person.shape)
        content = encode_jpeg(np.clip(lit, 0, 255).astype(np.uint8))
        (folder / f"person-{number}.jpg").write_bytes(content)
    with cbook.get_sample_data("grace_hopper.jpg") as other:
        (folder / "other.jpg").write_bytes(other.read())
    return folder


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of loopback where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])
