"""How long a frame takes at the door, stage by stage, and beside it what others take for the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from limen.alignment import align
from limen.detection import Detector, nearest_face
from limen.device.admission import AdmissionPolicy, Admitter
from limen.device.gatekeeper import Gatekeeper
from limen.device.recogniser import Recogniser
from limen.device.shot_quality import shot_quality
from limen.device.subjects import References
from limen.device.values import Frame
from limen.embedder import Embedder, unit_norm
from limen.recognition import FaceSample

STAGES = ("find", "align and judge", "embed", "decide")
WARM_UP, MIN_ROUNDS, MAX_ROUNDS = 5, 20, 2000
THRESHOLD = 0.5


class Peer(Protocol):
    """Another way from a frame to a decision."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def decide(self, image: NDArray[np.uint8]) -> bool:
        """Find the nearest face, embed it, hold it against the references. Whether it matched.

        NoFaceError where none was found.
        """
        ...


@dataclass(frozen=True, slots=True)
class Spread:
    """What a stage took."""

    name: str
    median_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class PeerSpread(Spread):
    """A peer's whole way; times_as_long: the median of its time over this door's, round by round."""

    times_as_long: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured. whole: from a frame with a face to a decision, the sum of the stages.

    frames_a_second: one after the other, the whole way each; resident_mb: of this process, with
    whatever peers were loaded; references: how many were compared.
    """

    width_px: int
    height_px: int
    references: int
    rounds: int
    stages: tuple[Spread, ...]
    whole: Spread
    frames_a_second: float
    resident_mb: float
    peers: tuple[PeerSpread, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class DoorStages:
    """The door's own steps with a clock between them; the same functions that `Door` calls."""

    def __init__(
        self,
        detector: Detector,
        embedder: Embedder,
        recogniser: Recogniser,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._recogniser = recogniser
        self._gatekeeper = Gatekeeper(Admitter(AdmissionPolicy()))
        self._clock = clock
        self._frames = 0

    def run(self, image: NDArray[np.uint8]) -> list[float]:
        """Seconds of each of STAGES. NoFaceError where there is no face."""
        clock, times = self._clock, [self._clock()]
        faces = self._detector.detect(image)
        face = nearest_face(faces)
        times.append(clock())
        crop = align(image, face.landmarks_xy)
        quality = shot_quality(face, crop).total
        times.append(clock())
        embedding = self._embedder.embed(crop[None])[0]
        times.append(clock())
        frame = Frame(image, 0.1 * self._frames, self._frames)
        self._frames += 1
        sample = FaceSample(face, crop, embedding, quality, len(faces))
        self._gatekeeper.consider(self._recogniser.decide(sample, frame))
        times.append(clock())
        return np.diff(times).tolist()


def strangers(subjects: int, size: int, seed: int = 0) -> References:
    """So many subjects of one random reference each, (subjects, size) of unit norm."""
    rng = np.random.default_rng(seed)
    return References(
        tuple(f"subject-{number:07d}" for number in range(subjects)),
        np.arange(subjects),
        unit_norm(rng.standard_normal((subjects, size), np.float32)),
    )


def bench(
    image: NDArray[np.uint8],
    door: DoorStages,
    references: int,
    *,
    peers: Sequence[Peer] = (),
    seconds: float = 10.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Bench:
    """Run the whole way on one frame for about `seconds`, door and peers in turn.

    image: (H, W, 3) uint8 RGB with a face; references: how many the door was given, for the record.
    NoFaceError, naming who found none.
    """
    door_s: list[list[float]] = []
    peer_s: list[list[float]] = [[] for _ in peers]
    for _ in range(WARM_UP):
        door.run(image)
        for peer in peers:
            peer.decide(image)
    end = clock() + seconds
    while len(door_s) < MAX_ROUNDS and (len(door_s) < MIN_ROUNDS or clock() < end):
        door_s.append(door.run(image))
        for peer, took in zip(peers, peer_s, strict=True):
            started = clock()
            peer.decide(image)
            took.append(clock() - started)
    own = np.array(door_s)
    whole = own.sum(1)
    return Bench(
        width_px=image.shape[1],
        height_px=image.shape[0],
        references=references,
        rounds=len(own),
        stages=tuple(_spread(name, own[:, number]) for number, name in enumerate(STAGES)),
        whole=_spread("whole", whole),
        frames_a_second=1 / float(np.median(whole)),
        resident_mb=resident_mb(),
        peers=tuple(
            PeerSpread(
                *(peer.name, 1e3 * float(np.median(took)), 1e3 * float(np.quantile(took, 0.99))),
                times_as_long=float(np.median(np.array(took) / whole)),
            )
            for peer, took in zip(peers, peer_s, strict=True)
        ),
    )


def resident_mb() -> float:
    """This process's resident memory, 10⁶ bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


def _spread(name: str, seconds: NDArray[np.float64]) -> Spread:
    return Spread(name, 1e3 * float(np.median(seconds)), 1e3 * float(np.quantile(seconds, 0.99)))
