"""Family 'mobilenet-v2': Sandler et al., arXiv:1801.04381, table 2, sized for 112 px.

The stem keeps the resolution at 112 px, and the last convolution has 512 channels in place of
1280: here a depthwise head and a projection follow, not a classifier of a thousand classes.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from limen.train.networks.inverted import InvertedResidualEmbedder, Row, Table


class MobileNetV2Embedder(InvertedResidualEmbedder):
    """MobileNetV2-like, ReLU6."""

    family: ClassVar[str] = "mobilenet-v2"
    table: ClassVar[Table] = Table(
        stem=32,
        stem_halves_from=5,
        rows=(
            Row(32, 16),
            *Row(96, 24, halves_from=4).repeated(2, expanded=144),
            *Row(144, 32, halves_from=3).repeated(3, expanded=192),
            *Row(192, 64, halves_from=2).repeated(4, expanded=384),
            *Row(384, 96).repeated(3, expanded=576),
            *Row(576, 160, halves_from=1).repeated(3, expanded=960),
            Row(960, 320),
        ),
        last=512,
        activation=nn.ReLU6,
    )
