"""The objectives that a recipe may name, under the names of their papers; typed and bounded.

Formulas and defaults are pytorch-metric-learning's where it has the loss; the class heads'
(`arcface`, `cosface`, `subcenter-arcface`) are in `limen.train.objectives.class_head`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Distance = Literal["cosine", "euclidean", "manhattan"]
TripletMining = Literal["batch-all", "semi-hard", "batch-hard", "distance-weighted"]


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(1.0, gt=0, le=1000, description="of this term in the sum")


class _WithWeights(_Objective):
    """A loss with weights of its own: no weight decay, a learning rate of their own."""

    own_rate: float = Field(
        1.0, gt=0, le=1000, description="of the loss's own weights, times the stage's learning rate"
    )


class TripletObjective(_Objective):
    """Triplet loss with mining inside the batch (Schroff et al., arXiv:1503.03832)."""

    kind: Literal["triplet"]
    margin: float = Field(0.2, gt=0, le=2)
    distance: Distance = "cosine"
    mining: TripletMining = "batch-hard"
    smooth: bool = Field(False, description="softplus in place of the hinge (Hermans et al., 2017)")


class _PairMargins(_Objective):
    """Mated pairs are pulled to `pos_margin`, non-mated ones pushed to `neg_margin`.

    Similarities with the cosine (1 and 0 where left out), else distances (0 and 1).
    """

    distance: Distance = "cosine"
    pos_margin: float | None = Field(None, ge=-1, le=2)
    neg_margin: float | None = Field(None, ge=-1, le=2)

    @model_validator(mode="after")
    def _leave_a_gap(self) -> Self:
        mated, non_mated = self.margins
        if (mated <= non_mated) if self.distance == "cosine" else (mated >= non_mated):
            raise ValueError(
                "pos_margin must be nearer than neg_margin: the greater one with the cosine, "
                "the smaller one with a distance"
            )
        return self

    @property
    def margins(self) -> tuple[float, float]:
        """`pos_margin` and `neg_margin`, the defaults put in."""
        mated, non_mated = (1.0, 0.0) if self.distance == "cosine" else (0.0, 1.0)
        return (
            mated if self.pos_margin is None else self.pos_margin,
            non_mated if self.neg_margin is None else self.neg_margin,
        )


class ContrastiveObjective(_PairMargins):
    """Contrastive loss, as of Siamese networks (Hadsell et al., 2006)."""

    kind: Literal["contrastive"]


class MarginObjective(_WithWeights):
    """Margin loss with distance-weighted sampling (Wu et al., arXiv:1706.07567).

    `beta` is the boundary between mated and non-mated: 1.2 where left out, or, with the cosine,
    the 0.28 of that distance.
    """

    kind: Literal["margin"]
    margin: float = Field(0.2, gt=0, le=2)
    distance: Distance = "euclidean"
    beta: float | None = Field(None, ge=-1, le=2)
    learn_beta: bool = Field(False, description="one boundary an identity, learnt")
    nu: float = Field(0.0, ge=0, le=10, description="pulls learnt boundaries down")
    mining: TripletMining = "distance-weighted"

    @property
    def boundary(self) -> float:
        """`beta`, the default put in."""
        if self.beta is not None:
            return self.beta
        return 1 - 1.2**2 / 2 if self.distance == "cosine" else 1.2


class LiftedStructureObjective(_PairMargins):
    """Lifted structure (Oh Song et al., arXiv:1511.06452), or as Hermans et al. generalise it."""

    kind: Literal["lifted-structure"]
    distance: Distance = "euclidean"
    generalized: bool = Field(False, description="Hermans et al., arXiv:1703.07737, equation 8")


class NPairObjective(_Objective):
    """N-pair loss (Sohn, 2016) on inner products of one pair an identity, with its penalty on the
    embeddings' norms. A batch of two pictures an identity wastes none.
    """

    kind: Literal["n-pair"]
    norm_weight: float = Field(0.02, ge=0, le=10, description="of the embeddings' mean norm")


class AngularObjective(_Objective):
    """Angular loss (Wang et al., arXiv:1708.01682)."""

    kind: Literal["angular"]
    alpha_deg: float = Field(40.0, gt=0, lt=90)


class ProxyNCAObjective(_WithWeights):
    """Proxy-NCA (Movshovitz-Attias et al., arXiv:1703.07464): one proxy an identity."""

    kind: Literal["proxy-nca"]
    own_rate: float = Field(10.0, gt=0, le=1000)
    distance: Distance = "euclidean"
    scale: float = Field(8.0, gt=0, le=256, description="of the softmax")


class ProxyAnchorObjective(_WithWeights):
    """Proxy-anchor (Kim et al., arXiv:2003.13911): one proxy an identity, on the cosine."""

    kind: Literal["proxy-anchor"]
    own_rate: float = Field(10.0, gt=0, le=1000)
    margin: float = Field(0.1, ge=0, le=1)
    alpha: float = Field(32.0, gt=0, le=256)


class _ClassHead(_WithWeights):
    scale: float = Field(64.0, gt=0, le=256)
    sample: float = Field(
        1.0, gt=0, le=1, description="share of the class centres that a step looks at (partial FC)"
    )


class ArcFaceObjective(_ClassHead):
    """ArcFace (Deng et al., arXiv:1801.07698): a margin on the angle to the class's centre."""

    kind: Literal["arcface"]
    margin: float = Field(0.5, ge=0, le=1.5, description="radians")


class SubCenterArcFaceObjective(ArcFaceObjective):
    """Sub-centre ArcFace (Deng et al., ECCV 2020): several centres a class, for noisy labels."""

    kind: Literal["subcenter-arcface"]  # type: ignore[assignment]
    sub_centers: int = Field(3, ge=2, le=16)


class CosFaceObjective(_ClassHead):
    """CosFace (Wang et al., arXiv:1801.09414): a margin on the cosine to the class's centre."""

    kind: Literal["cosface"]
    margin: float = Field(0.35, ge=0, le=1)


class MultiSimilarityObjective(_Objective):
    """Multi-similarity loss and its mining (Wang et al., arXiv:1904.06627)."""

    kind: Literal["multi-similarity"]
    alpha: float = Field(2.0, gt=0, le=256)
    beta: float = Field(50.0, gt=0, le=256)
    base: float = Field(0.5, ge=-1, le=2)
    epsilon: float = Field(0.1, ge=0, le=2, description="of the mining")


class CircleObjective(_Objective):
    """Circle loss on pairs (Sun et al., arXiv:2002.10857), with its values for faces."""

    kind: Literal["circle"]
    m: float = Field(0.25, gt=0, lt=1)
    gamma: float = Field(256.0, gt=0, le=1024)


class SupConObjective(_Objective):
    """Supervised contrastive loss (Khosla et al., arXiv:2004.11362)."""

    kind: Literal["supcon"]
    temperature: float = Field(0.1, gt=0, le=10)


class RankedListObjective(_Objective):
    """Ranked list loss (Wang et al., arXiv:1903.03238) on Euclidean distances of unit embeddings.

    Temperatures stay below 40, where exp(T * distance) is still a float32.
    """

    kind: Literal["ranked-list"]
    margin: float = Field(0.4, gt=0, le=2)
    alpha: float = Field(1.2, gt=0, le=2, description="where non-mated pairs are left alone")
    imbalance: float = Field(0.5, ge=0, le=1, description="the non-mated pairs' share")
    temperature_neg: float = Field(10.0, ge=0, le=40)
    temperature_pos: float = Field(0.0, ge=0, le=40)

    @model_validator(mode="after")
    def _margin_within_alpha(self) -> RankedListObjective:
        if self.margin >= self.alpha:
            raise ValueError("margin must be smaller than alpha: mated pairs go to alpha - margin")
        return self


class DistillationObjective(_Objective):
    """Learn a teacher's embeddings: each by its cosine, and the similarities between them.

    A second teacher is learnt by similarities alone (`cosine_weight = 0`), since no embedding can
    lie in two places.
    """

    kind: Literal["distillation"]
    teacher: str = "sface"
    cosine_weight: float = Field(1.0, ge=0, description="of 1 - cosine to the teacher's embedding")
    pairwise_weight: float = Field(4.0, ge=0, description="of the squared error of similarities")

    @model_validator(mode="after")
    def _ask_for_something(self) -> DistillationObjective:
        if not self.cosine_weight and not self.pairwise_weight:
            raise ValueError("one of cosine_weight and pairwise_weight must be above zero")
        return self


ClassHeadObjective = ArcFaceObjective | CosFaceObjective | SubCenterArcFaceObjective

LabelledObjective = (
    TripletObjective
    | ContrastiveObjective
    | MarginObjective
    | LiftedStructureObjective
    | NPairObjective
    | AngularObjective
    | ProxyNCAObjective
    | ProxyAnchorObjective
    | ArcFaceObjective
    | CosFaceObjective
    | SubCenterArcFaceObjective
    | MultiSimilarityObjective
    | CircleObjective
    | SupConObjective
    | RankedListObjective
)

Objective = Annotated[LabelledObjective | DistillationObjective, Field(discriminator="kind")]
