"""A door's configuration: one TOML file, every key bounded and described."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from limen.device.admission import AdmissionPolicy
from limen.device.following import FaceRule, FollowPolicy
from limen.device.gatekeeper import Demand
from limen.device.lock import MAX_PULSE_S
from limen.device.lock_config import LockConfig
from limen.device.policy_config import PolicyConfig
from limen.device.sources import is_path
from limen.errors import ConfigError
from limen.manifest import Precision, Runtime
from limen.settings import explain_validation_error

MAX_CONFIG_BYTES = 1 << 20

NO_LIVENESS = (
    "nothing here tells a living face from a photograph of one, so a photograph of somebody who is "
    "enrolled may open this door: set second_factor.demand = 'always', or write "
    "lock.accept_no_liveness = true if that is accepted"
)


class DoorConfig(PolicyConfig):
    """Everything that a door is told. Relative paths start at the configuration file's folder."""

    source: str = Field(
        default="camera",
        min_length=1,
        max_length=2000,
        description="'camera', 'camera:N', a video, a folder of pictures, 'rtsp://…', 'http://…'",
    )
    gallery: Path = Field(default=Path("gallery.sqlite"), description="the gallery's file")
    key: Path | None = Field(
        default=None, description="the gallery's key file; the one beside the gallery where none"
    )
    bundle: Path | None = Field(
        default=None, description="the bundle; the one that ships where none"
    )
    former_bundle: Path | None = Field(
        default=None,
        description="the bundle that the gallery is moving away from, served beside the new one",
    )
    runtime: Runtime | None = Field(
        default=None, description="'tflite' or 'onnx'; the first installed"
    )
    precision: Precision | None = Field(
        default=None, description="'float32', 'float16' or 'int8'; the bundle's default where none"
    )
    yunet: Path | None = Field(
        default=None, description="a YuNet file, in place of the bundle's finder"
    )
    unlock_for_s: float = Field(
        default=3.0, gt=0, le=MAX_PULSE_S, description="how long the door opens"
    )
    votes: int = Field(
        default=3, ge=1, le=50, description="matches of one subject that open the door"
    )
    window: int = Field(
        default=5, ge=1, le=50, description="decisions among which the votes are counted"
    )
    window_s: float = Field(default=2.0, gt=0, le=60, description="age at which a vote expires")
    cool_down_s: float = Field(default=5.0, ge=0, le=600, description="pause after opening")
    min_quality: float = Field(
        default=0.2, ge=0, le=1, description="quality below which a face is a failure to acquire"
    )
    min_face_px: int = Field(
        default=80, ge=20, le=2000, description="width below which a face is a failure to acquire"
    )
    margin: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="how far the best score must be above the next subject's for a vote",
    )
    audit: bool = Field(
        default=True, description="what the door does is kept in the gallery's audit log"
    )
    audit_scores: bool = Field(default=False, description="… with scores and thresholds")
    rearm_s: float = Field(
        default=2.0,
        ge=0,
        le=600,
        description="time out of view before the door opens for the same person again",
    )
    faces: FaceRule = Field(
        default=FaceRule.NEAREST,
        description="which face counts: 'one' (nobody while several are in view), 'nearest', 'all'",
    )
    shots: int = Field(
        default=5,
        ge=1,
        le=50,
        description="shots fused into a probe: the frame's own and the visitor's best others; "
        "never more than calibrated for",
    )
    reconnect: bool = Field(default=True, description="whether a camera that is lost is waited for")
    events: Path | None = Field(
        default=None, description="a file for the events besides stdout, rotated"
    )
    events_max_mb: float = Field(
        default=10.0, gt=0, le=10000, description="size at which that file is rotated"
    )
    events_kept: int = Field(default=5, ge=1, le=1000, description="old event files that are kept")
    lock: LockConfig = Field(default_factory=LockConfig, description="the table [lock]")

    @model_validator(mode="after")
    def _votes_fit_the_window(self) -> Self:
        if self.votes > self.window:
            raise ValueError(
                f"votes ({self.votes}) is more than window ({self.window}): ask for fewer votes, "
                "or a longer window"
            )
        return self

    @model_validator(mode="after")
    def _photographs_are_considered(self) -> Self:
        if (
            self.lock.kind == "gpio"
            and self.second_factor.demand is not Demand.ALWAYS
            and not self.lock.accept_no_liveness
        ):
            raise ValueError(NO_LIVENESS)
        if self.lock.kind == "gpio" and self.unlock_for_s > self.lock.max_pulse_s:
            raise ValueError(
                f"unlock_for_s ({self.unlock_for_s:g}) is more than lock.max_pulse_s "
                f"({self.lock.max_pulse_s:g}): shorten the one or lengthen the other"
            )
        return self

    def follow_policy(self) -> FollowPolicy:
        """How faces are followed over time."""
        return FollowPolicy(rule=self.faces, shots=self.shots)

    def admission_policy(self) -> AdmissionPolicy:
        """The part that concerns votes."""
        return AdmissionPolicy(
            votes=self.votes,
            window=self.window,
            window_s=self.window_s,
            cool_down_s=self.cool_down_s,
            one_face=self.faces is FaceRule.ONE,
            margin=self.margin,
            contested_votes=self.second_factor.demand is not Demand.NEVER,
            rearm_s=self.rearm_s,
        )


def load_config(path: Path) -> DoorConfig:
    """Read a door's configuration. ConfigError with the key that is wrong, or the line."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than 1 MiB; not a configuration: check the path")
        values = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text; save it as that") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML ({error}); correct that line") from error
    try:
        config = DoorConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain_validation_error(error, DoorConfig)}") from error
    return _resolved(config, path.absolute().parent)


def _resolved(config: DoorConfig, folder: Path) -> DoorConfig:
    """Paths made absolute: a service starts in a folder of its own."""
    source = config.source
    if is_path(source) and "://" not in source:
        source = str(folder / Path(source).expanduser())
    return config.model_copy(
        update={
            "source": source,
            "gallery": folder / config.gallery.expanduser(),
            "key": folder / config.key.expanduser() if config.key else None,
            "bundle": folder / config.bundle.expanduser() if config.bundle else None,
            "former_bundle": (
                folder / config.former_bundle.expanduser() if config.former_bundle else None
            ),
            "yunet": folder / config.yunet.expanduser() if config.yunet else None,
            "events": folder / config.events.expanduser() if config.events else None,
            "second_factor": config.second_factor.model_copy(
                update={"file": folder / config.second_factor.file.expanduser()}
            ),
        }
    )
