"""The processes of a run: this one alone, N of this machine, or those that torchrun started."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from limen.errors import ConfigError, RuntimeUnavailableError
from limen.train.ranks import ALONE, Ranks
from limen.train.synchronised_norm import synchronise_norms


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all of the run, how many of them share this machine, and `wrap`, which
    makes a network whose gradients are the mean over all of them.
    """

    ranks: Ranks = ALONE
    here: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module


def launch(devices: int = 1) -> Processes:
    """Start `devices` processes of this command, of which this is the first, or join torchrun's.

    Alone, where one process is asked for: then neither Fabric nor a process group is in the way.
    ConfigError where `devices` contradicts torchrun; RuntimeUnavailableError without Fabric.
    """
    started = started_by_torchrun(os.environ)
    if started is not None:
        size, here = started
        if devices not in (1, here):
            raise ConfigError(
                f"torchrun started {here} processes on this machine, and --devices asks for "
                f"{devices}: leave --devices out, torchrun's --nproc-per-node decides"
            )
        devices, nodes = here, max(1, size // here)
    else:
        nodes = 1
    if devices * nodes == 1:
        return Processes()
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise RuntimeUnavailableError(
            "several processes need lightning-fabric, which is not installed: "
            "pip install 'limen[train]'"
        ) from error

    # Buffers are equal everywhere already, since the batch's statistics are synchronised.
    strategy = DDPStrategy(process_group_backend="gloo", broadcast_buffers=False)
    fabric = Fabric(accelerator="cpu", devices=devices, num_nodes=nodes, strategy=strategy)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric.launch()

    def wrap(network: nn.Module) -> nn.Module:
        synchronise_norms(network)
        with warnings.catch_warnings():
            # torch 2.13 calls it forward_sync_buffers; earlier ones know the old name only.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers")
            wrapped: nn.Module = fabric.setup_module(network)
        return wrapped

    return Processes(Ranks(fabric.global_rank, fabric.world_size), devices, wrap)


def started_by_torchrun(environment: os._Environ[str] | dict[str, str]) -> tuple[int, int] | None:
    """How many processes torchrun started, in all and on this machine; None where it did not."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return None
    return int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])


def leave() -> None:
    """Take this process out of its group, where it is in one. Calling it twice is harmless."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
