"""An operating point: a threshold, the evidence it rests on, and the model it belongs to."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from limen.calibration.conditions import Condition
from limen.calibration.identification import independent_fpir
from limen.calibration.meaning import ScoreMeaning
from limen.errors import CalibrationError
from limen.settings import explain_validation_error

_Rate = Field(ge=0, le=1)


class TransactionRates(BaseModel):
    """FAR and FRR of a whole visit (ISO/IEC 19795-1), as `limen.calibration.transactions` has them.

    A visit has `decisions` looks and opens on `votes` of `window` for one subject. Each rate is the
    higher of its two ends: looks of a visit all alike, or as different as separate pictures.
    frr_visits: whole visits it was counted from, 0 where it was drawn from enrolment shots, and
    then without failures to acquire; failures_to_acquire: None where no visit was seen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    votes: int = Field(ge=1, le=50)
    window: int = Field(ge=1, le=50)
    time_limit_s: float = Field(gt=0, le=120)
    decisions_per_s: float = Field(gt=0, le=100)
    decisions: int = Field(ge=1)
    far: float | None = Field(None, ge=0, le=1)
    far_interval: tuple[float, float] | None = None
    far_alike: float | None = Field(None, ge=0, le=1)
    far_apart: float | None = Field(None, ge=0, le=1)
    far_people: int = Field(0, ge=0)
    frr: float | None = Field(None, ge=0, le=1)
    frr_interval: tuple[float, float] | None = None
    frr_alike: float | None = Field(None, ge=0, le=1)
    frr_apart: float | None = Field(None, ge=0, le=1)
    frr_people: int = Field(0, ge=0)
    frr_visits: int = Field(0, ge=0)
    failures_to_acquire: float | None = Field(None, ge=0, le=1)


class ConditionPoint(BaseModel):
    """The threshold by day or by night, with its evidence (`limen.calibration.by_condition`).

    The same figures as an operating point's, of comparisons under that condition; visits: how many
    it rests on, of `mated_subjects` people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    condition: Condition
    threshold: float = Field(ge=-1, le=1.0001)
    fmr: float = _Rate
    fmr_upper_bound: float = _Rate
    non_mated_comparisons: int = Field(ge=1)
    effective_comparisons: float | None = Field(None, gt=0)
    strangers_matched: int | None = Field(None, ge=0)
    fnmr: float | None = Field(None, ge=0, le=1)
    fnmr_interval: tuple[float, float] | None = None
    mated_comparisons: int = Field(0, ge=0)
    mated_subjects: int = Field(0, ge=0)
    visits: int = Field(ge=1)
    transaction: TransactionRates | None = None


class OperatingPoint(BaseModel):
    """A decision threshold with its evidence.

    FMR and FNMR are of one comparison: a probe, fused from `probe_frames` frames of one track,
    against one subject's fused references. FPIR is of one probe against everybody enrolled.
    A test with as many new strangers stays within fmr_upper_bound, and within fpir_upper_bound,
    with `confidence`. `conditions` are the points by light, where they were asked for; none of them
    lies below `threshold`. `effective_comparisons` is how many independent comparisons say as much as
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
    transaction: TransactionRates | None = None
    by_light: bool = Field(False, description="points by day and night were asked for")
    conditions: tuple[ConditionPoint, ...] = Field((), max_length=len(Condition))
    calibrated_at: str = Field(max_length=40, description="UTC, ISO 8601")

    @property
    def fpir_if_independent(self) -> float:
        """1 - (1 - FMR)^N at the present gallery's size, beside the measured FPIR."""
        return independent_fpir(self.fmr, self.enrolled_subjects)

    def threshold_in(self, condition: Condition) -> float:
        """The threshold for a frame of that condition.

        A condition without a point of its own takes the strictest of all: what nobody measured
        must not be the weakest way in.
        """
        if not self.conditions:
            return self.threshold
        own = [point.threshold for point in self.conditions if point.condition is condition]
        return own[0] if own else max(point.threshold for point in self.conditions)

    def thresholds_by_condition(self) -> dict[Condition, float]:
        """The threshold for each condition, as a recogniser takes them; empty without points by
        light.
        """
        if not self.conditions:
            return {}
        return {condition: self.threshold_in(condition) for condition in Condition}

    @model_validator(mode="after")
    def _conditions_are_stricter(self) -> Self:
        named = [point.condition for point in self.conditions]
        if len(set(named)) != len(named):
            raise ValueError("a condition has two points")
        if any(point.threshold < self.threshold for point in self.conditions):
            raise ValueError("a condition's threshold lies below the general one")
        return self

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
