"""How much a training crop is changed: a table in a recipe, or the name of a preset."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

# What a door does to a face, on top of what any camera does. 'plain' is the defaults: it knows
# nothing of faces, so it suits any folder by class.
PRESETS = MappingProxyType(
    {
        "none": {
            "flip": False,
            "shift_px": 0.0,
            "scale": 0.0,
            "rotate_deg": 0.0,
            "light": 0.0,
            "grey": 0.0,
            "blur": 0.0,
            "low_resolution": 0.0,
            "noise": 0.0,
        },
        "plain": {},
        "door": {
            "grey": 0.08,
            "blur": 0.12,
            "low_resolution": 0.2,
            "noise": 0.12,
            "motion_blur": 0.08,
            "defocus": 0.06,
            "jpeg": 0.2,
            "low_light": 0.12,
            "backlight": 0.1,
            "near_infrared": 0.08,
            "mask": 0.05,
            "sunglasses": 0.04,
        },
    }
)


class Augmentation(BaseModel):
    """How much a training crop is changed; a probability is per crop.

    In a recipe: a table of these keys, `"door"` in its place, or a table with `preset = "door"`
    and the keys that differ from it. Lengths are in px of the crop.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = Field(True, description="mirror half of the crops")
    shift_px: float = Field(2.0, ge=0, le=20, description="standard deviation of the shift")
    scale: float = Field(0.04, ge=0, le=0.3, description="standard deviation of log scale")
    rotate_deg: float = Field(2.5, ge=0, le=45, description="standard deviation of the rotation")
    light: float = Field(0.25, ge=0, le=1, description="largest change of gain and gamma")
    grey: float = Field(0.1, ge=0, le=1, description="probability of a grey picture")
    blur: float = Field(0.15, ge=0, le=1, description="probability of a Gaussian blur")
    low_resolution: float = Field(0.15, ge=0, le=1, description="probability of a far face")
    noise: float = Field(0.15, ge=0, le=1, description="probability of sensor noise")
    motion_blur: float = Field(0.0, ge=0, le=1, description="probability of a moving face")
    defocus: float = Field(0.0, ge=0, le=1, description="probability of a lens out of focus")
    jpeg: float = Field(0.0, ge=0, le=1, description="probability of JPEG artefacts")
    low_light: float = Field(0.0, ge=0, le=1, description="probability of a dark, noisy picture")
    backlight: float = Field(0.0, ge=0, le=1, description="probability of light from behind")
    near_infrared: float = Field(0.0, ge=0, le=1, description="probability of an infrared look")
    mask: float = Field(0.0, ge=0, le=1, description="probability of a face mask, drawn on")
    sunglasses: float = Field(0.0, ge=0, le=1, description="probability of sunglasses, drawn on")

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"preset": value}
        if not isinstance(value, dict) or "preset" not in value:
            return value
        changes = {key: item for key, item in value.items() if key != "preset"}
        name = value["preset"]
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"the preset is one of {', '.join(PRESETS)}")
        return {**PRESETS[name], **changes}


def preset(name: str) -> Augmentation:
    """The settings of 'none', 'plain' or 'door'. ValueError for another name."""
    return Augmentation.model_validate(name)
