"""The processes that train together, one a device, as torchrun started them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

if TYPE_CHECKING:
    from accelerate import PartialState

PATIENCE = timedelta(hours=12)
"""How long one process waits for the others: they may be decoding an archive."""


class World:
    """Who takes part, and what is added up over them. A process on its own is the whole.

    Each process has the whole network and takes its part of every global batch. The gradients are added up in one
    vector before the clipping and the update, which each then does by itself; so nothing wraps the network, and
    checkpoints are those of one process.

    Attributes:
        count: of processes.
        index: of this one.

    """

    def __init__(self, state: PartialState | None) -> None:
        self._state = state
        self.count = state.num_processes if state else 1
        self.index = state.process_index if state else 0

    @property
    def main(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.index == 0

    def part(self, n: int) -> slice:
        """The part of `n` things that is this process' own: a stretch, of equal lengths but for one."""
        bounds = [n * i // self.count for i in range(self.count + 1)]
        return slice(bounds[self.index], bounds[self.index + 1])

    def wait(self) -> None:
        """Until all are here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def total(self, *values: float) -> list[float]:
        """Sums of numbers over the processes."""
        if self._state is None:
            return list(values)
        from accelerate.utils import reduce

        summed = reduce(torch.tensor(values, dtype=torch.float64, device=self._state.device), reduction="sum")
        return [float(value) for value in summed]

    def add_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its sum over the processes."""
        if self._state is None:
            return
        from accelerate.utils import reduce

        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        summed = reduce(torch.cat([g.reshape(-1) for g in gradients]), reduction="sum")
        for gradient, part in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    def shared(self, n: int, work: Callable[[slice], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Rows that each process computes a part of.

        Args:
            n: rows.
            work: a stretch of rows to float32 (rows, columns).

        Returns:
            All rows, in every process.

        """
        own = work(self.part(n))
        if self._state is None:
            return own
        from accelerate.utils import gather

        most = -(-n // self.count) + 1
        padded = torch.zeros(most, own.shape[1], device=self._state.device)
        padded[: len(own)] = torch.from_numpy(own)
        everyone = gather(padded).cpu().numpy().reshape(self.count, most, -1)
        lengths = [n * (i + 1) // self.count - n * i // self.count for i in range(self.count)]
        return np.concatenate([rows[:length] for rows, length in zip(everyone, lengths, strict=True)])


@lru_cache(maxsize=1)
def current_world() -> World:
    """Those that were started together with this one, by the environment that torchrun sets."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return World(None)
    from accelerate import PartialState

    return World(PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE))
