"""What the networks are built of: convolutions with their normalisation, and activations.

Only what int8 runtimes run as one operation is used: convolutions, ReLU and ReLU6, additions, and
for squeeze-and-excitation a mean and a product. A batch normalisation is registered right after
the convolution it follows: folding relies on that (`limen.train.networks.folding`).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

CHANNEL_MULTIPLE = 8
LARGEST_FINAL_MAP_PX = 7
SQUEEZE = 4  # of the channels, as in Hu et al., arXiv:1709.01507, and MobileNetV3


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, 8 at least: what SIMD kernels fill."""
    return max(CHANNEL_MULTIPLE, int(channels / CHANNEL_MULTIPLE + 0.5) * CHANNEL_MULTIPLE)


def halvings(input_px: int) -> int:
    """How often a picture of `input_px` is halved until its map is 7 px wide or less."""
    count = 0
    while input_px > LARGEST_FINAL_MAP_PX:
        input_px = (input_px + 1) // 2  # a 3 x 3 convolution, stride 2, padding 1
        count += 1
    return count


def final_map_px(input_px: int) -> int:
    """The side of the last feature map: 7 for 28, 56, 112 and 224, 4 to 7 for any above 7."""
    for _ in range(halvings(input_px)):
        input_px = (input_px + 1) // 2
    return input_px


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


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, and the activation, where one is given."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_px: int,
        stride: int = 1,
        groups: int = 1,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__(
            nn.Conv2d(
                inputs, outputs, kernel_px, stride, kernel_px // 2, groups=groups, bias=False
            ),
            nn.BatchNorm2d(outputs),
            *([] if activation is None else [activation]),
        )

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return cast(nn.Conv2d, self[0])

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch normalisation."""
        return cast(nn.BatchNorm2d, self[1])


class ConvBlock(ConvNorm):
    """Convolution, batch normalisation, and a ReLU that a warm start may fade in."""

    def __init__(
        self, inputs: int, outputs: int, kernel_px: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel_px, stride, groups, FadingReLU(outputs))

    @property
    def activation(self) -> FadingReLU:
        """The activation."""
        return cast(FadingReLU, self[2])


class SqueezeExcite(nn.Module):
    """Weigh each channel by a gate that all of them decide (Hu et al., arXiv:1709.01507).

    The gate is MobileNetV3's hard-sigmoid, relu6(z + 3) / 6 (Howard et al., arXiv:1905.02244),
    with the 3 as the bias that training starts from, and without the factor 1/6, which the batch
    normalisation behind the next convolution divides out. What is left, a convolution and a ReLU6,
    is int8 everywhere.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = round_channels(channels / SQUEEZE)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.reduce_activation = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.ReLU6()
        self.product = nn.Identity()  # a name for what int8 rounds

    def open_gates(self) -> None:
        """Set the gates half open, as a hard-sigmoid of 0 is."""
        assert self.expand.bias is not None
        nn.init.constant_(self.expand.bias, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        gates: Tensor = self.gate(self.expand(self.reduce_activation(self.reduce(self.pool(x)))))
        weighed: Tensor = self.product(x * gates)
        return weighed


class InvertedResidual(nn.Module):
    """Expand, filter by depth, project; added to the input where the shapes allow it.

    Sandler et al., arXiv:1801.04381, section 3: the projection is linear. `expanded` equal to
    `inputs` leaves out the expansion. Squeeze-and-excitation lies behind the depthwise
    convolution, as in MobileNetV3.
    """

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        activation: type[nn.Module],
        kernel_px: int = 3,
        stride: int = 1,
        squeezes: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(ConvNorm(inputs, expanded, 1, activation=activation()))
        layers.append(
            ConvNorm(
                expanded, expanded, kernel_px, stride, groups=expanded, activation=activation()
            )
        )
        if squeezes:
            layers.append(SqueezeExcite(expanded))
        layers.append(ConvNorm(expanded, outputs, 1))
        self.layers = nn.Sequential(*layers)
        self.adds_input = stride == 1 and inputs == outputs
        self.sum = nn.Identity()  # a name for what int8 rounds

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        if self.adds_input:
            found = self.sum(x + found)
        return found
