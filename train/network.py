"""The embedder's network: a MobileNet of depthwise-separable blocks for 112 x 112 crops.

MobileNetV1's shape (Howard et al., arXiv:1704.04861) with the two changes that face embedders
made standard (MobileFaceNet, arXiv:1804.07573): the stem keeps the resolution, because a crop of
112 px has none to spare, and a global depthwise convolution replaces average pooling, because a
mouth corner and an eye should not be weighed alike.

Plain ReLU everywhere and no L2 normalisation inside: both decide whether an int8 graph is fast
and faithful (docs/adr/0004-quantisable-network.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

INPUT_PX = 112

# Output channels at width 1.0, and the stride of each block's depthwise convolution.
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
FINAL_MAP_PX = 7


def scaled_channels(width: float) -> list[int]:
    """Channels of the stem and of every block at `width`, rounded to a multiple of 8, 8 at least."""
    full = [STEM_CHANNELS, *(channels for channels, _ in BLOCKS)]
    return [max(8, int(width * channels / 8 + 0.5) * 8) for channels in full]


class FadingReLU(nn.Module):
    """A PReLU whose negative slope is faded out, so that training ends on a plain ReLU.

    A warm start from a network with PReLU would lose most of its accuracy if the slopes were cut
    at once. `slope` has shape (channels,) and is not trained; `fade` goes from 1 to 0 while the
    rest of the network adapts. At 0, the slope is gone and `forward` is `relu` itself.
    """

    slope: Tensor
    fade: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("slope", torch.zeros(channels))
        self.register_buffer("fade", torch.zeros(()))
        self.is_plain = True

    def set_fade(self, fade: float) -> None:
        """Scale the negative slope by `fade`, 0 for a plain ReLU."""
        self.fade.fill_(fade)
        self.is_plain = fade == 0.0 or not bool(self.slope.any())

    def forward(self, x: Tensor) -> Tensor:
        if self.is_plain:
            return torch.relu(x)
        return torch.nn.functional.prelu(x, self.slope * self.fade)


class ConvBlock(nn.Sequential):
    """Convolution without bias, batch normalisation, activation."""

    def __init__(
        self, inputs: int, outputs: int, kernel_px: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(
                inputs, outputs, kernel_px, stride, kernel_px // 2, groups=groups, bias=False
            ),
            nn.BatchNorm2d(outputs),
            FadingReLU(outputs),
        )

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return cast(nn.Conv2d, self[0])

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch normalisation."""
        return cast(nn.BatchNorm2d, self[1])

    @property
    def activation(self) -> FadingReLU:
        """The activation."""
        return cast(FadingReLU, self[2])


class MobileNetEmbedder(nn.Module):
    """(N, 3, 112, 112) float32 RGB, scaled as the bundle says -> (N, embedding_size) float32.

    The output is not normalised; the runtime does that. `width` scales every layer's channels;
    `channels`, when given, sets them one by one (stem first), as slimming does.
    """

    def __init__(
        self,
        width: float = 0.5,
        embedding_size: int = 128,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.channels = list(channels) if channels is not None else scaled_channels(width)
        if len(self.channels) != len(BLOCKS) + 1:
            raise ValueError(
                f"expected {len(BLOCKS) + 1} channel counts (stem and blocks), "
                f"found {len(self.channels)}"
            )
        self.embedding_size = embedding_size
        self.stem = ConvBlock(3, self.channels[0], 3)
        self.depthwise = nn.ModuleList()
        self.pointwise = nn.ModuleList()
        for (_, stride), inputs, outputs in zip(
            BLOCKS, self.channels[:-1], self.channels[1:], strict=True
        ):
            self.depthwise.append(ConvBlock(inputs, inputs, 3, stride, groups=inputs))
            self.pointwise.append(ConvBlock(inputs, outputs, 1))
        last = self.channels[-1]
        self.global_depthwise = nn.Conv2d(last, last, FINAL_MAP_PX, groups=last, bias=False)
        self.global_norm = nn.BatchNorm2d(last)
        self.projection = nn.Conv2d(last, embedding_size, 1, bias=True)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.kaiming_normal_(self.projection.weight, mode="fan_in", nonlinearity="linear")

    def set_fade(self, fade: float) -> None:
        """Set the fade of every activation (see FadingReLU)."""
        for module in self.modules():
            if isinstance(module, FadingReLU):
                module.set_fade(fade)

    def sync_fade(self) -> None:
        """Make every activation's shortcut agree with its buffers, after loading weights."""
        for module in self.modules():
            if isinstance(module, FadingReLU):
                module.set_fade(float(module.fade))

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, (N, channels[-1], 7, 7)."""
        x = self.stem(x)
        for depthwise, pointwise in self.blocks():
            x = pointwise(depthwise(x))
        return x

    def blocks(self) -> list[tuple[ConvBlock, ConvBlock]]:
        """The depthwise and the pointwise half of each block, in order."""
        pairs = zip(self.depthwise, self.pointwise, strict=True)
        return [(cast(ConvBlock, first), cast(ConvBlock, second)) for first, second in pairs]

    def forward(self, x: Tensor) -> Tensor:
        x = self.global_norm(self.global_depthwise(self.features(x)))
        embeddings: Tensor = self.projection(x)
        return embeddings.flatten(1)


def count_parameters(network: nn.Module) -> int:
    """Trained parameters, batch normalisation included."""
    return sum(p.numel() for p in network.parameters())


def count_multiply_adds(network: nn.Module, input_px: int = INPUT_PX) -> int:
    """Multiply-accumulates of one crop through all convolutions."""
    total = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        kernel = module.kernel_size[0] * module.kernel_size[1]
        total += output[0].numel() * kernel * module.in_channels // module.groups

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, input_px, input_px))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
