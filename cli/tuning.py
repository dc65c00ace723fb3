"""The verbs tune and bench: what this very board does best, and how long a frame takes on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.options import (
    BundleOption,
    GalleryOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
    gallery_path,
    open_gallery,
    open_recognition,
)
from limen.cli.output import note, now_utc, print_table, say, say_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limen.bundle import Bundle
    from limen.device.candidates import Timed
    from limen.device.stages import Bench, Peer


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(tune)
    app.command()(bench)


def tune(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A door's file.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long it times.")] = 20.0,
    dry_run: Annotated[bool, typer.Option(help="Time, and write nothing.")] = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Time finder and embedder at every precision, runtime and thread count, and keep the best.

    Only what gives the bundle's golden answers here is a candidate. Beside a gallery, the model of
    its templates and threshold is kept: another precision needs enrolling and calibrating again.
    The choice lies beside the gallery, and every verb that names the gallery uses it.
    """
    from limen.bundle import open_bundle
    from limen.device.config import DoorConfig, load_config
    from limen.device.tuned import tuning_file, write_tuning
    from limen.device.tuning import tune as measure

    settings = load_config(config) if config else DoorConfig()
    path = settings.gallery if config and gallery is None else gallery_path(gallery)
    opened = open_bundle(bundle or settings.bundle)
    bound_to = None
    if path.exists():
        with open_gallery(path, key=settings.key) as kept:
            bound_to = kept.model_id
    found = measure(
        opened,
        model_id=bound_to,
        measured_at=now_utc(),
        yunet=yunet or settings.yunet,
        seconds=seconds,
    )
    where = tuning_file(path)
    if not dry_run:
        write_tuning(where, found.tuning)
    chosen = found.tuning
    picks = {(p.path, p.threads) for p in (chosen.finder, chosen.embedder) if p is not None}
    if json:
        say_json(
            {
                "file": None if dry_run else str(where),
                **chosen.model_dump(mode="json"),
                "bound_to": bound_to,
                "timed": [each.to_dict() for each in found.timed],
                "faster": [each.to_dict() for each in found.faster],
            }
        )
        return
    print_table(
        "On this board",
        ["what", "runtime", "precision", "threads", "median ms", ""],
        [_row(each, (each.path, each.threads) in picks) for each in found.timed],
    )
    if found.faster:
        names = " and ".join(f"{t.role} {t.runtime} {t.precision}" for t in found.faster)
        note(
            f"faster, but another model than this gallery's: {names}. Templates and threshold hold "
            "for no other: to change over, tune for a new gallery, enrol and calibrate there"
        )
    if settings.runtime is not None or settings.precision is not None:
        note("the configuration names a runtime or precision, which wins over this choice")
    say(f"written: {where}" if not dry_run else "nothing was written")


def _row(timed: Timed, chosen: bool) -> list[str]:
    median = "–" if timed.median_ms is None else f"{timed.median_ms:.2f}"
    why = "chosen" if chosen else timed.reason
    return [timed.role, timed.runtime, timed.precision, str(timed.threads), median, why]


def bench(
    picture: Annotated[
        Path | None, typer.Option(help="A picture with one face; a drawn figure where none.")
    ] = None,
    references: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many enrolled.")
    ] = 1000,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long it times.")] = 10.0,
    sface: Annotated[
        Path | None, typer.Option(help="Compare with OpenCV's SFace; needs --yunet-file.")
    ] = None,
    yunet_file: Annotated[Path | None, typer.Option(help="The YuNet file beside it.")] = None,
    face_recognition: Annotated[
        bool, typer.Option(help="Compare with face_recognition, where it is installed.")
    ] = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Time every stage from a frame with a face to a decision, as the door would run here.

    The enrolled are random vectors. Whoever it is compared with takes turns with it on one frame.
    """
    from limen.device.peers import FaceRecognitionPeer, OpenCvPeer
    from limen.device.recogniser import Recogniser
    from limen.device.stages import THRESHOLD, DoorStages, strangers
    from limen.device.stages import bench as measure
    from limen.errors import ConfigError

    if (sface is None) != (yunet_file is None):
        raise ConfigError("name both --sface and --yunet-file, or neither")
    ready = open_recognition(bundle, runtime, precision, yunet, gallery_path(gallery))
    image = _frame(picture, ready.bundle)
    peers: list[Peer] = []
    if sface is not None and yunet_file is not None:
        peers.append(OpenCvPeer(yunet_file, sface, references))
    if face_recognition:
        peers.append(FaceRecognitionPeer(references))
    size = ready.bundle.manifest.embedding_size
    recogniser = Recogniser(strangers(references, size), THRESHOLD)
    door = DoorStages(ready.detector, ready.embedder, recogniser)
    found = measure(image, door, references, peers=peers, seconds=seconds)
    if json:
        say_json({**found.to_dict(), "model_id": ready.embedder.model_id})
    else:
        _tell(found)


def _frame(picture: Path | None, bundle: Bundle) -> NDArray[np.uint8]:
    from limen.device.racing import figures, frame_of
    from limen.errors import NoFaceError
    from limen.images import read_picture

    if picture is not None:
        return read_picture(picture)
    detector = bundle.detector()
    for figure in figures(bundle):
        frame = frame_of(figure)
        if detector.detect(frame):
            return frame
    raise NoFaceError("this bundle's finder finds none of the golden figures: name a --picture")


def _tell(found: Bench) -> None:
    print_table(
        f"From a frame of {found.width_px} x {found.height_px} px with a face to a decision",
        ["stage", "median ms", "p99 ms"],
        [
            [each.name, f"{each.median_ms:.2f}", f"{each.p99_ms:.2f}"]
            for each in (*found.stages, found.whole)
        ],
    )
    if found.peers:
        print_table(
            "In the same run",
            ["what", "median ms", "p99 ms", "times as long"],
            [
                [p.name, f"{p.median_ms:.1f}", f"{p.p99_ms:.1f}", f"{p.times_as_long:.1f}"]
                for p in found.peers
            ],
        )
    note(
        f"{found.frames_a_second:.1f} frames a second, {found.resident_mb:.0f} MB resident, "
        f"{found.references:,} references, {found.rounds} rounds"
    )
