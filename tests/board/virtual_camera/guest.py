"""Run inside the tree: our camera class on picamera2 and libcamera's virtual camera.

guest.py PICTURES GALLERY: takes frames through `PicameraSource`, alone and by its thread; then enrols
somebody from PICTURES, which the camera shows too, and runs a door on the camera until it opens.
Prints one JSON object. What is real: libcamera, picamera2's configuring, requests and buffers, our
conversion. What stands in: the sensor, DMA heaps, the raw role, the allocator's planes.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import libcamera
import picamera2
from picamera2.allocators import DmaAllocator

from limen.cli.main import main
from limen.device import picamera_source
from limen.device.picamera_source import PicameraSource
from limen.errors import SourceError


class TwoPlanes(DmaAllocator):
    """NV12 as two planes of one buffer, which the virtual pipeline expects; picamera2 gives one."""

    def allocate(self, libcamera_config: Any, _: Any) -> None:
        self.libcamera_fds = []
        self.cleanup()
        for descriptor in self.open_fds:
            os.close(descriptor)
        self.frame_buffers, self.open_fds = {}, []
        for stream in libcamera_config:
            buffers = []
            for number in range(stream.buffer_count):
                heap = self.dmaHeap.alloc(f"limen-{number}", stream.frame_size)
                self.open_fds.append(heap.get())
                luma, colour = libcamera.FrameBuffer.Plane(), libcamera.FrameBuffer.Plane()
                luma.fd = colour.fd = heap.get()
                luma.offset, luma.length = 0, stream.stride * stream.size.height
                colour.offset, colour.length = luma.length, stream.frame_size - luma.length
                buffer = libcamera.FrameBuffer([luma, colour])
                key = buffer.planes[0].fd
                self.libcamera_fds.append(key)
                self.mapped_buffers_used[key] = False
                self.mapped_buffers[buffer] = mmap.mmap(
                    key, stream.frame_size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
                )
                buffers.append(buffer)
            self.frame_buffers[stream.stream] = buffers


class VirtualPicamera(picamera2.Picamera2):
    """Without the raw role and the controls, which the virtual camera has none of."""

    def __init__(self, number: int = 0) -> None:
        super().__init__(number, allocator=TwoPlanes())

    def _get_raw_modes(self) -> list[Any]:
        return [{"format": "SRGGB10", "size": (640, 480)}]

    def create_video_configuration(self, *arguments: Any, **named: Any) -> Any:
        configuration = super().create_video_configuration(*arguments, **{**named, "raw": None})
        configuration["controls"] = {}
        return configuration


def first_frames(count: int) -> list[dict[str, Any]]:
    with PicameraSource(0, size_px=(640, 480), small_px=None, camera=VirtualPicamera()) as source:
        settled = source._camera.camera_configuration()["main"]
        frames = list(itertools.islice(source, count))
    bars = []
    for frame in frames:
        height, width = frame.image.shape[:2]
        bars.append(
            {
                "format": settled["format"],
                "stride": settled["stride"],
                "shape": frame.image.shape,
                "at": frame.captured_at_s,
                "sequence": frame.sequence,
                "left": frame.image[height // 2, width // 8].tolist(),
                "right": frame.image[height // 2, width - width // 8].tolist(),
            }
        )
    return bars


def newest_frames(count: int) -> list[int]:
    camera = PicameraSource(0, size_px=(640, 480), small_px=None, camera=VirtualPicamera())
    with camera.newest() as source:
        return [frame.sequence for frame in itertools.islice(source, count)]


def missing() -> str:
    try:
        PicameraSource(7)
    except SourceError as error:
        return str(error)
    return ""


def hung() -> dict[str, Any]:
    """A camera whose pictures stop coming, and the next one after it."""
    patience_s, picamera_source.PICTURE_TIMEOUT_S = picamera_source.PICTURE_TIMEOUT_S, 1.0
    camera = VirtualPicamera()
    told: dict[str, Any] = {}
    try:
        with PicameraSource(0, size_px=(640, 480), small_px=None, camera=camera) as source:
            for _ in source:
                camera.stop_preview()  # its event loop: no request is ever completed again
    except SourceError as error:
        told["error"] = str(error)
    picamera_source.PICTURE_TIMEOUT_S = patience_s
    told["afterwards"] = len(first_frames(1))
    return told


def limen(*arguments: str) -> None:
    sys.argv = ["limen", *arguments]
    with contextlib.suppress(SystemExit):
        main()


def door(pictures: Path, gallery: str) -> list[str]:
    """The verb itself, on the camera that its own code opens."""
    shots = [str(path) for path in sorted(pictures.glob("*.jpg"))]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        limen("enrol", "ann", *shots[:3], "--gallery", gallery)
        limen("calibrate", "--max-fmr", "1e-2", "--gallery", gallery)
    picamera2.Picamera2 = VirtualPicamera
    picamera_source.SIZE_PX = (640, 480)
    said = io.StringIO()

    def stop_when_opened() -> None:
        end_s = time.monotonic() + 60
        while "opened" not in said.getvalue() and time.monotonic() < end_s:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    said.truncate(0)
    said.seek(0)
    threading.Thread(target=stop_when_opened, daemon=True).start()
    with contextlib.redirect_stdout(said):
        limen("run", "--source", "camera", "--gallery", gallery)
    return [json.loads(line)["event"] for line in said.getvalue().splitlines()]


if __name__ == "__main__":
    told = {
        "libcamera": libcamera.CameraManager.singleton().version,
        "missing": missing(),
        "frames": first_frames(4),
        "newest": newest_frames(3),
        "hung": hung(),
    }
    told["door"] = door(Path(sys.argv[1]), sys.argv[2])
    print(json.dumps(told))
