"""What every term of the loss has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from limen.errors import LimenError


class ObjectiveError(LimenError, ValueError):
    """An objective cannot be used with these pictures."""


class Term(nn.Module):
    """A weighted term of the loss.

    name: in the log. weight: of the term in the sum. collapsed_at: the weighted value that the
    term has where all embeddings are one point, None where it has no fixed one. own_rate: of the
    term's own weights, times the stage's learning rate. own_paths: for each kind of own weights,
    the attribute that holds them; stages whose terms have weights of the same kind and shape go
    on with one and the same.
    """

    def __init__(self, name: str, weight: float) -> None:
        super().__init__()
        self.name = name
        self.weight = weight
        self.own_rate = 1.0
        self.own_paths: Mapping[str, str] = {}
        self.collapsed_at: float | None = None

    @abstractmethod
    def forward(
        self, embeddings: Tensor, identity: Tensor, teachers: Mapping[str, Tensor]
    ) -> Tensor:
        """embeddings: (n, D) as the network gives them; identity: (n,) int64, -1 for a picture of
        nobody known; teachers: (n, T) by name, unit norm. A scalar comes back.
        """


class LabelledTerm(Term):
    """A term that learns from identities: pictures of nobody known are dropped before it."""

    @abstractmethod
    def labelled(self, embeddings: Tensor, identity: Tensor) -> Tensor:
        """The unweighted loss, a scalar. identity: (n,) int64, 0 or above."""

    def forward(
        self, embeddings: Tensor, identity: Tensor, teachers: Mapping[str, Tensor]
    ) -> Tensor:
        known = identity >= 0
        if not bool(known.all()):
            embeddings, identity = embeddings[known], identity[known]
        if not len(identity):
            return embeddings.sum() * 0.0  # a loss of nothing that can still be differentiated
        return self.weight * self.labelled(embeddings, identity)
