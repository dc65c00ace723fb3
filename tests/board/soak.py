"""Many frames through the real door: finder, embedder, tracks, gallery, events, lock, under a limit.

soak.py FRAMES FOLDER: FOLDER holds person-0.jpg … and other.jpg. People come and go, are let in or not,
events are written and rotated, the gallery is read and changed. After the first tenth, the process
may take no more than HEADROOM_MB of address space on top: whatever grows without an end then dies of
MemoryError. Prints one JSON object: resident memory at each fiftieth of the way.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import limen
from limen.device.assembly import make_door, make_gatekeeper
from limen.device.audit_sink import AuditSink
from limen.device.camera_health import HealthMonitor
from limen.device.config import DoorConfig
from limen.device.door import DoorStep
from limen.device.event_file import EventFile
from limen.device.events import JsonLines
from limen.device.fakes import fake_operating_point
from limen.device.gallery import Gallery
from limen.device.loading import load_recogniser
from limen.device.lock import SimulatedLock
from limen.device.runtime import Attendants, run_door
from limen.device.sources import ArraySource, FrameClock
from limen.images import read_picture
from limen.recognition import acquire

HEADROOM_MB = 16
WIDTH_PX, HEIGHT_PX = 320, 240
INTERVAL_S = 0.1
AT = "2026-01-01T00:00:00Z"
# A visit, in frames: an empty door, a member, an empty door, a stranger, both at once.
SCENES = ((0, 40), (1, 25), (0, 25), (2, 25), (3, 15))
VISIT = sum(length for _, length in SCENES)


def memory_mb(field: str) -> float:
    """A field of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


def scene(number: int) -> int:
    at = number % VISIT
    for kind, length in SCENES:
        if at < length:
            return kind
        at -= length
    raise ValueError(number)


def pictures(
    frames: int, member: NDArray[np.uint8], stranger: NDArray[np.uint8]
) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """Frames of people who sway before a wall, with a sensor's noise."""
    rng = np.random.default_rng(5)
    wall = cv2.GaussianBlur(
        rng.integers(60, 200, (HEIGHT_PX, WIDTH_PX, 3)).astype(np.uint8), (9, 9), 0
    )
    for number in range(frames):
        image = wall.copy()
        kind, sway = scene(number), int(6 * np.sin(number / 3))
        for shown, person, left in ((1, member, 6), (2, stranger, 164)):
            if kind & shown:
                height, width = person.shape[:2]
                image[20 : 20 + height, left + sway : left + sway + width] = person
        image[::8, ::8] = np.clip(
            image[::8, ::8] + rng.integers(-3, 4, image[::8, ::8].shape), 0, 255
        )
        yield image, number * INTERVAL_S


def main(frames: int, folder: Path) -> None:
    bundle = limen.open_bundle()
    detector = bundle.detector()
    embedder = bundle.embedder(detector=detector)
    del bundle
    shots = [read_picture(folder / f"person-{number}.jpg") for number in range(3)]
    rows = [acquire(shot, detector, embedder).embedding for shot in shots]
    member = shots[0][:200, 75:225]  # as large as their faces are in the enrolled shots
    other = read_picture(folder / "other.jpg")
    stranger = cv2.resize(other[:400, 110:410], (150, 200), interpolation=cv2.INTER_AREA)
    gallery = Gallery.open(folder / "soak.db", model_id=embedder.model_id, create=True)
    gallery.enrol("ann", np.stack(rows), [0.9] * 3, AT)
    point = fake_operating_point(0.5).model_copy(update={"model_id": embedder.model_id})
    gallery.keep_operating_point(point)
    config = DoorConfig(min_face_px=40)
    keeper = make_gatekeeper(config, gallery)
    source = FrameClock(ArraySource(pictures(frames, member, stranger)))
    door = make_door(
        config,
        detector,
        embedder,
        load_recogniser(gallery, embedder.model_id),
        keeper,
        SimulatedLock(source),
    )
    events = EventFile(
        folder / "events.jsonl",
        lambda stream: JsonLines(stream, with_decisions=True),
        max_bytes=200_000,
    )
    seen, opened, resident = 0, 0, list[float]()
    warm = max(frames // 10, VISIT)

    def after(step: DoorStep) -> None:
        nonlocal seen, opened
        seen += 1
        opened += step.admission.verdict.value == "open"
        if seen == warm:
            limit = int((memory_mb("VmSize") + HEADROOM_MB) * 2**20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if seen % max(frames // 50, 1) == 0:
            resident.append(memory_mb("VmRSS"))
        if seen % 1000 == 0:  # the gallery changes, and is loaded again
            gallery.enrol("ann", np.stack(rows[:1]), [0.9], AT)
            gallery.keep_operating_point(point)

    started_s = time.process_time()
    run_door(
        source,
        door,
        [events, AuditSink(gallery)],
        on_step=after,
        gallery=gallery,
        attendants=Attendants(health=HealthMonitor()),
    )
    events.close()
    gallery.close()
    settled = resident[len(resident) // 10 :]
    told = {
        "frames": seen,
        "opened": opened,
        "visits": frames // VISIT,
        "resident_mb": [round(mb, 2) for mb in resident],
        "growth_mb": max(settled) - settled[0],
        "cpu_s": time.process_time() - started_s,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
