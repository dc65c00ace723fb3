"""Family 'mobilenet': a plain stack of depthwise-separable blocks.

MobileNetV1's shape (Howard et al., arXiv:1704.04861) with the two changes that face embedders
made standard (MobileFaceNet, arXiv:1804.07573): the stem keeps the resolution, because a crop of
112 px has none to spare, and a global depthwise convolution replaces average pooling.

It is the family that a large model can be slimmed to (`limen.train.slim`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from torch import Tensor, nn

from limen.train.networks.blocks import ConvBlock, halvings, round_channels
from limen.train.networks.embedder import INPUT_PX, EmbedderNetwork, check_channels

# Output channels at width 1.0, and the stride of each block's depthwise convolution at 112 px.
STEM_CHANNELS = 32
BLOCKS: tuple[tuple[int, int], ...] = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


def scaled_channels(width: float) -> list[int]:
    """Channels of the stem and of every block at `width`, rounded to a multiple of 8, 8 at least."""
    return [round_channels(width * c) for c in (STEM_CHANNELS, *(c for c, _ in BLOCKS))]


def strides(input_px: int) -> list[int]:
    """Strides of the stem and of every block: a small picture is halved by the last ones only."""
    left = halvings(input_px)
    found = []
    for places_halving in reversed([True, *(stride == 2 for _, stride in BLOCKS)]):
        halves = places_halving and left > 0
        left -= halves
        found.append(2 if halves else 1)
    return found[::-1]


class MobileNetEmbedder(EmbedderNetwork):
    """MobileNetV1-like. `width` scales every layer's channels.

    `channels`, when given, sets them one by one (stem first), as slimming does.
    ValueError where their number is another.
    """

    family: ClassVar[str] = "mobilenet"

    def __init__(
        self,
        width: float = 0.5,
        embedding_size: int = 128,
        channels: Sequence[int] | None = None,
        input_px: int = INPUT_PX,
        head_filters: int = 1,
    ) -> None:
        counts = channels if channels is not None else scaled_channels(width)
        counts = check_channels(counts, len(BLOCKS) + 1, "stem and blocks")
        super().__init__(counts, embedding_size, input_px, head_filters)
        stem_stride, *block_strides = strides(input_px)
        self.stem = ConvBlock(3, self.channels[0], 3, stem_stride)
        self.depthwise = nn.ModuleList()
        self.pointwise = nn.ModuleList()
        for stride, inputs, outputs in zip(
            block_strides, self.channels[:-1], self.channels[1:], strict=True
        ):
            self.depthwise.append(ConvBlock(inputs, inputs, 3, stride, groups=inputs))
            self.pointwise.append(ConvBlock(inputs, outputs, 1))
        self._add_head()

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for depthwise, pointwise in self.blocks():
            x = pointwise(depthwise(x))
        return x

    def blocks(self) -> list[tuple[ConvBlock, ConvBlock]]:
        """The depthwise and the pointwise half of each block, in order."""
        pairs = zip(self.depthwise, self.pointwise, strict=True)
        return [(cast(ConvBlock, first), cast(ConvBlock, second)) for first, second in pairs]
