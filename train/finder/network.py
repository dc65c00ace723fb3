"""The finder's network: a single-shot detector with five landmarks, smaller than YuNet.

Depthwise-separable blocks down to strides of 8, 16 and 32 px, a top-down path (FPN, Lin et al.,
arXiv:1612.03144) of nearest-neighbour sums, and one head per map. ReLU and batch normalisation
only, so that it quantises; scores, boxes and landmarks leave it apart, so that each keeps a scale
of its own in int8.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from limen.anchors import BOX_CHANNELS, LANDMARK_CHANNELS, SCORE_CHANNELS, STRIDES_PX

Maps = tuple[Tensor, ...]
PRIOR = 0.01  # a cell's first guess of holding a face (Lin et al., arXiv:1708.02002)


def _normalised(inputs: int, outputs: int, kernel_px: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_px, stride, kernel_px // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Separable(nn.Sequential):
    """3 x 3 depthwise, then 1 x 1 convolution with batch normalisation and ReLU.

    Nothing lies between the two, as in YuNet's units: one normalisation and one ReLU less to
    compute at each, a fifth of the training time.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            *_normalised(inputs, outputs, 1),
        )


class FinderNetwork(nn.Module):
    """(N, 3, H, W) float32 RGB, scaled; H and W multiples of 32 -> nine maps.

    Three score maps (N, 1, H/s, W/s), three box maps (N, 4, …), three landmark maps (N, 10, …),
    for strides s of 8, 16 and 32 px in this order; see `limen.anchors` for what they mean.
    channels: of the maps; the first, largest layers have a quarter and three eighths of them.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.channels = channels
        at_2, at_4 = channels // 4, channels * 3 // 8
        self.stem = _normalised(3, at_2, 3, 2)
        self.stride_4 = nn.Sequential(Separable(at_2, at_4, 2), Separable(at_4, at_4))
        self.stride_8 = nn.Sequential(
            Separable(at_4, channels, 2), *(Separable(channels, channels) for _ in range(2))
        )
        self.stride_16 = nn.Sequential(
            Separable(channels, channels, 2), *(Separable(channels, channels) for _ in range(2))
        )
        self.stride_32 = nn.Sequential(
            Separable(channels, channels, 2), *(Separable(channels, channels) for _ in range(2))
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge_16 = Separable(channels, channels)
        self.merge_8 = Separable(channels, channels)
        self.towers = nn.ModuleList(Separable(channels, channels) for _ in STRIDES_PX)
        self.scores = self._outputs(SCORE_CHANNELS)
        self.boxes = self._outputs(BOX_CHANNELS)
        self.landmarks = self._outputs(LANDMARK_CHANNELS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        for outputs in (self.scores, self.boxes, self.landmarks):
            for layer in outputs:
                assert isinstance(layer, nn.Conv2d)
                assert layer.bias is not None
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
                if outputs is self.scores:
                    nn.init.constant_(layer.bias, math.log(PRIOR / (1 - PRIOR)))

    def _outputs(self, outputs: int) -> nn.ModuleList:
        return nn.ModuleList(nn.Conv2d(self.channels, outputs, 1) for _ in STRIDES_PX)

    def forward(self, x: Tensor) -> Maps:
        at_8 = self.stride_8(self.stride_4(self.stem(x)))
        at_16 = self.stride_16(at_8)
        at_32 = self.stride_32(at_16)
        at_16 = self.merge_16(at_16 + self.upsample(at_32))
        at_8 = self.merge_8(at_8 + self.upsample(at_16))
        features = [tower(x) for tower, x in zip(self.towers, (at_8, at_16, at_32), strict=True)]
        maps: list[Tensor] = []
        for outputs in (self.scores, self.boxes, self.landmarks):
            maps += [layer(x) for layer, x in zip(outputs, features, strict=True)]
        return tuple(maps)


def answers(maps: Maps) -> Tensor:
    """What all M cells say, as `limen.anchors` lists them: (N, M, 15)."""
    levels = len(STRIDES_PX)
    kinds = [maps[:levels], maps[levels : 2 * levels], maps[2 * levels :]]
    return torch.cat(
        [torch.cat([m.permute(0, 2, 3, 1).flatten(1, 2) for m in kind], 1) for kind in kinds], 2
    )
