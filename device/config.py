"""A door's configuration: one TOML file, every key bounded and described."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from limen.device.admission import AdmissionPolicy
from limen.device.lock import MAX_PULSE_S
from limen.device.sources import is_path
from limen.errors import ConfigError
from limen.manifest import Precision, Runtime
from limen.settings import explain_validation_error

MAX_CONFIG_BYTES = 1 << 20

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LockConfig(BaseModel):
    """The table [lock]."""

    model_config = _STRICT

    kind: Literal["simulated", "gpio"] = Field(
        default="simulated", description="'simulated' moves nothing; 'gpio' drives a relay"
    )
    pin: int | None = Field(default=None, ge=0, le=27, description="BCM number of the relay's pin")
    active_high: bool = Field(
        default=True, description="whether the relay lets go when the pin is high"
    )

    @model_validator(mode="after")
    def _gpio_has_a_pin(self) -> Self:
        if self.kind == "gpio" and self.pin is None:
            raise ValueError("a gpio lock needs its pin: set lock.pin to the BCM number")
        return self


class DoorConfig(BaseModel):
    """Everything that a door is told. Relative paths start at the configuration file's folder."""

    model_config = _STRICT

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
    one_face: bool = Field(
        default=False, description="admit nobody while several faces are in view"
    )
    audit: bool = Field(
        default=True, description="what the door does is kept in the gallery's audit log"
    )
    audit_scores: bool = Field(default=False, description="… with scores and thresholds")
    lock: LockConfig = Field(default_factory=LockConfig, description="the table [lock]")

    @model_validator(mode="after")
    def _votes_fit_the_window(self) -> Self:
        if self.votes > self.window:
            raise ValueError(
                f"votes ({self.votes}) is more than window ({self.window}): ask for fewer votes, "
                "or a longer window"
            )
        return self

    def admission_policy(self) -> AdmissionPolicy:
        """The part that concerns votes."""
        return AdmissionPolicy(
            votes=self.votes,
            window=self.window,
            window_s=self.window_s,
            cool_down_s=self.cool_down_s,
            one_face=self.one_face,
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
            "yunet": folder / config.yunet.expanduser() if config.yunet else None,
        }
    )
