"""The old home of the networks, which now live in `limen.train.networks`."""

from limen.train.networks.blocks import LARGEST_FINAL_MAP_PX as FINAL_MAP_PX
from limen.train.networks.blocks import ConvBlock, FadingReLU
from limen.train.networks.embedder import INPUT_PX
from limen.train.networks.family import count_multiply_adds, count_parameters
from limen.train.networks.mobilenet import BLOCKS, MobileNetEmbedder, scaled_channels

__all__ = [
    "BLOCKS",
    "FINAL_MAP_PX",
    "INPUT_PX",
    "ConvBlock",
    "FadingReLU",
    "MobileNetEmbedder",
    "count_multiply_adds",
    "count_parameters",
    "scaled_channels",
]
