"""What every embedder's network has in common: its promise, its head, and its first weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from limen.train.networks.blocks import FadingReLU, SqueezeExcite, final_map_px
from limen.train.quantisation.simulation import Int8Simulation

INPUT_PX = 112


class EmbedderNetwork(nn.Module):
    """(N, 3, px, px) float32 RGB, scaled as the bundle says -> (N, embedding_size) float32.

    The output is not normalised; the runtime does that (docs/adr/0004-quantisable-network.md).
    `channels` are the widths of all layers, by which the same network is built again. Families
    are built by `limen.train.networks.family.build_network`.

    The head is MobileFaceNet's (Chen et al., arXiv:1804.07573, section 3.2): a global depthwise
    convolution in place of average pooling, because a mouth corner and an eye should not be
    weighed alike, then a linear projection. `head_filters` depthwise filters look at each channel:
    one is MobileFaceNet's, more come closer to a dense layer over the whole map.
    """

    family: ClassVar[str]

    def __init__(
        self, channels: Sequence[int], embedding_size: int, input_px: int, head_filters: int
    ) -> None:
        super().__init__()
        self.channels = list(channels)
        self.embedding_size = embedding_size
        self.head_filters = head_filters
        self.input_px = input_px
        self.simulation: Int8Simulation | None = None

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """The last feature map, (N, channels[-1], m, m) with m of `final_map_px`."""

    def forward(self, x: Tensor) -> Tensor:
        simulation = self.simulation
        embeddings: Tensor
        if simulation is not None and simulation.is_active:
            embeddings = simulation(self, x)
        else:
            x = self.global_norm(self.global_depthwise(self.features(x)))
            embeddings = self.projection(x)
        embeddings = embeddings.flatten(1)
        if simulation is not None and self.training:
            embeddings = embeddings + simulation.without_effect()
        return embeddings

    def add_simulation(self) -> Int8Simulation:
        """Give the network ranges for int8, which are then part of its weights; the ones it has.

        Until the simulation is made active, the network computes in float as before.
        """
        if self.simulation is None:
            self.simulation = Int8Simulation(self).train(self.training)
        return self.simulation

    def set_fade(self, fade: float) -> None:
        """Set the fade of every activation that has one (see FadingReLU)."""
        for module in self.modules():
            if isinstance(module, FadingReLU):
                module.set_fade(fade)

    def sync_fade(self) -> None:
        """Make every activation's shortcut agree with its buffers, after loading weights."""
        for module in self.modules():
            if isinstance(module, FadingReLU):
                module.set_fade(float(module.fade))

    def _add_head(self) -> None:
        """Add the head and draw the first weights; called once the rest is there."""
        last, map_px = self.channels[-1], final_map_px(self.input_px)
        filters = last * self.head_filters
        self.global_depthwise = nn.Conv2d(last, filters, map_px, groups=last, bias=False)
        self.global_norm = nn.BatchNorm2d(filters)
        self.projection = nn.Conv2d(filters, self.embedding_size, 1, bias=True)
        self._initialise()

    def _initialise(self) -> None:
        # He et al., arXiv:1502.01852.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, SqueezeExcite):
                module.open_gates()
        nn.init.kaiming_normal_(self.projection.weight, mode="fan_in", nonlinearity="linear")


def check_channels(channels: Sequence[int], expected: int, what: str) -> list[int]:
    """`channels` as a list. ValueError unless there are `expected`, which `what` names."""
    if len(channels) != expected:
        raise ValueError(f"expected {expected} channel counts ({what}), found {len(channels)}")
    return list(channels)
