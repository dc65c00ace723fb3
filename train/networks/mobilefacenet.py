"""Family 'mobilefacenet': Chen et al., arXiv:1804.07573, table 1, with ReLU in place of PReLU.

int8 with PReLU is slower than float on both runtimes (docs/adr/0004-quantisable-network.md).
The paper's depthwise convolution behind the stem is an inverted residual without expansion here,
so it has a linear 1 x 1 convolution of 64 channels that the paper's has not.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from limen.train.networks.inverted import InvertedResidualEmbedder, Row, Table


class MobileFaceNetEmbedder(InvertedResidualEmbedder):
    """MobileFaceNet: 112 px are halved by the stem already, so it is cheap for its depth."""

    family: ClassVar[str] = "mobilefacenet"
    table: ClassVar[Table] = Table(
        stem=64,
        stem_halves_from=4,
        rows=(
            Row(64, 64, halves_from=5),
            *Row(128, 64, halves_from=3).repeated(5),
            Row(256, 128, halves_from=2),
            *Row(256, 128).repeated(6),
            Row(512, 128, halves_from=1),
            *Row(256, 128).repeated(2),
        ),
        last=512,
        activation=nn.ReLU,
    )
