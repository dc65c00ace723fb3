"""An operating point: a threshold, the evidence it rests on, and the model it belongs to."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limen.calibration.meaning import ScoreMeaning
from limen.errors import CalibrationError
from limen.settings import explain_validation_error

_Rate = Field(ge=0, le=1)


class OperatingPoint(BaseModel):
    """A decision threshold with its evidence.

    FMR and FNMR are of one comparison: a probe, fused from `probe_frames` frames of one track,
    against one subject's fused references. FPIR is of one probe against everybody enrolled.
    A test with as many new strangers stays within fmr_upper_bound, and within fpir_upper_bound,
    with `confidence`. `effective_comparisons` is how many independent comparisons say as much as
    the ones made, since those of one stranger are alike. fnmr fields are None where the gallery
    has no subject with two references. Rates as in ISO/IEC 19795-1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_id: str = Field(min_length=1, max_length=64)
    threshold: float = Field(ge=-1, le=1.0001)
    max_fmr: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    fmr: float = _Rate
    fmr_upper_bound: float = _Rate
    non_mated_comparisons: int = Field(ge=1)
    effective_comparisons: float | None = Field(None, gt=0)
    strangers_matched: int | None = Field(None, ge=0)
    max_fpir: float | None = Field(None, gt=0, lt=1)
    fpir: float | None = Field(None, ge=0, le=1)
    fpir_upper_bound: float | None = Field(None, ge=0, le=1)
    fnmr: float | None = Field(None, ge=0, le=1)
    fnmr_interval: tuple[float, float] | None = None
    mated_comparisons: int = Field(0, ge=0)
    mated_subjects: int = Field(0, ge=0)
    enrolled_subjects: int = Field(ge=0)
    cohort_subjects: int = Field(ge=0)
    probe_frames: int = Field(1, ge=1, le=100)
    below_floor: bool = Field(False, description="the bundle's floor was undercut, as told to")
    lookalikes_accepted: bool = Field(False, description="two subjects as alike as one were two")
    meaning: ScoreMeaning | None = Field(None, description="what scores mean, where it is known")
    notes: tuple[str, ...] = Field((), max_length=20, description="what the evidence lacks")
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
