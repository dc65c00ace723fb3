"""A network of inverted residuals by a table: MobileFaceNet, MobileNetV2 and V3 are three tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from limen.train.networks.blocks import ConvNorm, InvertedResidual, halvings, round_channels
from limen.train.networks.embedder import INPUT_PX, EmbedderNetwork, check_channels


@dataclass(frozen=True, slots=True)
class Row:
    """One inverted residual at width 1.0.

    halves_from: the resolution is halved here where a picture is halved this many times or more,
    so 1 is the last place to lose its stride; 0 never halves. 112 px are halved four times.
    """

    expanded: int
    outputs: int
    halves_from: int = 0
    kernel_px: int = 3
    squeezes: bool = False

    def repeated(self, times: int, expanded: int | None = None) -> tuple[Row, ...]:
        """This row, and `times` - 1 that keep the resolution, expanding to `expanded` channels."""
        following = Row(expanded or self.expanded, self.outputs, 0, self.kernel_px, self.squeezes)
        return (self, *[following] * (times - 1))


@dataclass(frozen=True, slots=True)
class Table:
    """A family at width 1.0: stem, inverted residuals, and the last pointwise convolution."""

    stem: int
    stem_halves_from: int
    rows: tuple[Row, ...]
    last: int
    activation: type[nn.Module]

    def channels(self, width: float) -> list[int]:
        """Stem, then expanded and output channels of each row, then the last; multiples of 8."""
        counts = [self.stem]
        for row in self.rows:
            counts += [row.expanded, row.outputs]
        return [round_channels(width * count) for count in [*counts, self.last]]


class InvertedResidualEmbedder(EmbedderNetwork):
    """The network of the class's `table`. `width` scales every layer's channels.

    `channels`, when given, sets them one by one, in the order of `Table.channels`.
    ValueError where their number is another.
    """

    table: ClassVar[Table]

    def __init__(
        self,
        width: float = 1.0,
        embedding_size: int = 128,
        channels: Sequence[int] | None = None,
        input_px: int = INPUT_PX,
        head_filters: int = 1,
    ) -> None:
        table = self.table
        counts = channels if channels is not None else table.channels(width)
        what = "stem, expanded and output channels of each block, last"
        counts = check_channels(counts, 2 * len(table.rows) + 2, what)
        super().__init__(counts, embedding_size, input_px, head_filters)
        times = halvings(input_px)

        def stride(halves_from: int) -> int:
            return 2 if 0 < halves_from <= times else 1

        stem_stride = stride(table.stem_halves_from)
        self.stem = ConvNorm(3, counts[0], 3, stem_stride, activation=table.activation())
        self.blocks = nn.Sequential()
        inputs = counts[0]
        for row, expanded, outputs in zip(table.rows, counts[1:-1:2], counts[2:-1:2], strict=True):
            block = InvertedResidual(
                inputs,
                expanded,
                outputs,
                table.activation,
                row.kernel_px,
                stride(row.halves_from),
                row.squeezes,
            )
            self.blocks.append(block)
            inputs = outputs
        self.last = ConvNorm(inputs, counts[-1], 1, activation=table.activation())
        self._add_head()

    def features(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.blocks(self.stem(x)))
        return found
