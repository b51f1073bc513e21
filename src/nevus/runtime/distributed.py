"""The processes that train together, one a device, as torchrun started them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

PATIENCE = timedelta(hours=12)
"""How long one process waits for the others: they may be decoding a data set."""


class World:
    """The processes of a training, and sums over them; a single process is the whole world.

    Each process has the whole network and takes its shard of every global batch. The gradients are summed in one
    vector before clipping and update, which each process then does itself. So nothing wraps the network, and
    checkpoints are those of one process.

    Attributes:
        count: number of processes.
        index: of this process.

    """

    def __init__(self, device: torch.device | None = None) -> None:
        """Join the world.

        Args:
            device: of this process, if `torch.distributed` is initialized; None for a single process.

        """
        self._device = device
        self.count = 1 if device is None else dist.get_world_size()
        self.index = 0 if device is None else dist.get_rank()

    @property
    def main(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.index == 0

    def shard(self, n: int) -> slice:
        """Return this process's part of `n` rows: consecutive, of equal lengths but for one."""
        bounds = [n * i // self.count for i in range(self.count + 1)]
        return slice(bounds[self.index], bounds[self.index + 1])

    def barrier(self) -> None:
        """Wait for all processes."""
        if self._device is not None:
            dist.barrier()

    def all_reduce_sum(self, *values: float) -> list[float]:
        """Sum numbers over the processes."""
        if self._device is None:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def all_reduce_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its sum over the processes."""
        if self._device is None:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        total = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(total)
        for gradient, part in zip(gradients, torch.split(total, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    def all_gather_rows(self, n: int, work: Callable[[slice], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Compute rows, each process its shard.

        Args:
            n: number of rows.
            work: maps a shard to float32 (rows, columns).

        Returns:
            All rows, in every process.

        """
        own = work(self.shard(n))
        if self._device is None:
            return own
        padded = torch.zeros(-(-n // self.count) + 1, own.shape[1], device=self._device)
        padded[: len(own)] = torch.from_numpy(own)
        everyone = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(everyone, padded)
        lengths = [n * (i + 1) // self.count - n * i // self.count for i in range(self.count)]
        return np.concatenate([rows[:length].cpu().numpy() for rows, length in zip(everyone, lengths, strict=True)])


@lru_cache(maxsize=1)
def current_world() -> World:
    """Return the processes that were started together with this one, by the environment that torchrun sets."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return World()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    return World(device)
