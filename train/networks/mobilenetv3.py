"""Family 'mobilenet-v3': MobileNetV3-Small (Howard et al., arXiv:1905.02244, table 2) for 112 px.

Squeeze-and-excitation stays; hard-swish does not. No runtime has an int8 hard-swish that is one
operation: ONNX Runtime leaves it in float between two conversions, in the middle of every block.
ReLU takes its place throughout. The stem keeps the resolution at 112 px.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from limen.train.networks.inverted import InvertedResidualEmbedder, Row, Table


class MobileNetV3Embedder(InvertedResidualEmbedder):
    """MobileNetV3-Small-like: the cheapest of the families."""

    family: ClassVar[str] = "mobilenet-v3"
    table: ClassVar[Table] = Table(
        stem=16,
        stem_halves_from=5,
        rows=(
            Row(16, 16, halves_from=4, squeezes=True),
            Row(72, 24, halves_from=3),
            Row(88, 24),
            Row(96, 40, halves_from=2, kernel_px=5, squeezes=True),
            *Row(240, 40, kernel_px=5, squeezes=True).repeated(2),
            Row(120, 48, kernel_px=5, squeezes=True),
            Row(144, 48, kernel_px=5, squeezes=True),
            Row(288, 96, halves_from=1, kernel_px=5, squeezes=True),
            *Row(576, 96, kernel_px=5, squeezes=True).repeated(2),
        ),
        last=576,
        activation=nn.ReLU,
    )
