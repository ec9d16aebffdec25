"""Several processes that train one network, as torchrun starts them; one process when it did not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Peers:
    """The processes of a run.

    Attributes:
        rank: number of this one, from 0; the first one writes.
        count: how many there are.
        local_rank: number of this one on its machine, which is the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def device(self, wanted: str) -> str:
        """The device this process is to ask for: of several GPUs on a machine its own."""
        shared = self.count > 1 and wanted in ("auto", "cuda") and torch.cuda.is_available()
        return f"cuda:{self.local_rank}" if shared else wanted

    def wait(self) -> None:
        """Return when every process is here."""
        if self.count > 1:
            dist.barrier()

    def from_first(self, value: float) -> float:
        """The first process's value, for all of them."""
        if self.count == 1:
            return value
        shared = [value]
        dist.broadcast_object_list(shared, src=0)
        return shared[0]


def peers_of(environment: Mapping[str, str] = os.environ) -> Peers:
    """What torchrun says about the processes of this run; a single one when it says nothing."""
    return Peers(
        int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1)), int(environment.get("LOCAL_RANK", 0))
    )


@contextmanager
def together(peers: Peers, device: str) -> Iterator[None]:
    """Join the processes of a run for the length of a block.

    Args:
        peers: from `peers_of`.
        device: of this process, see `Peers.device`.
    """
    if peers.count == 1:
        yield
        return
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
