"""An operating point: a threshold, the evidence it rests on, and the model it belongs to."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.errors import CalibrationError
from limen.settings import explain_validation_error


class OperatingPoint(BaseModel):
    """A decision threshold with its evidence. Rates are per comparison (ISO/IEC 19795-1).

    fmr_upper_bound holds with `confidence`, comparisons taken as independent. fnmr fields are None
    where the gallery has no subject with two references.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_id: str = Field(min_length=1, max_length=64)
    threshold: float = Field(ge=-1, le=1.0001)
    max_fmr: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    fmr: float = Field(ge=0, le=1)
    fmr_upper_bound: float = Field(ge=0, le=1)
    non_mated_comparisons: int = Field(ge=1)
    fnmr: float | None = Field(None, ge=0, le=1)
    fnmr_interval: tuple[float, float] | None = None
    mated_comparisons: int = Field(0, ge=0)
    enrolled_subjects: int = Field(ge=0)
    cohort_subjects: int = Field(ge=0)
    calibrated_at: str = Field(max_length=40, description="UTC, ISO 8601")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse `model_dump_json`. CalibrationError with the field that is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise CalibrationError(
                f"the stored operating point is damaged ({explain_validation_error(error, cls)}): "
                "run 'limen calibrate' again"
            ) from error
