"""Several processes that train as one.

    torchrun --nproc-per-node 2 -m ws train ...        accelerate launch -m ws train ...        ws train --processes 2 ...

Each process finds out from its environment who it is, takes its share of the rows of every batch, and all add their
gradients before the step. Batches, their order and the step are those of one process, so the result is the same up to
rounding, whatever the number of processes. The adapters are whole in every process; with `shard`, the weights of the
base are spread over all of them by torch's FSDP2 and gathered block by block.

`fully_shard` is called here and not through accelerate, which on the CPU falls back to DDP without a word (1.15). And
gradients are added here and not by DDP, which hangs where a process has no row of a small last batch.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn

from ws.errors import Failed, ProcessLost
from ws.models.turned import turn_back
from ws.types import Json

T = TypeVar("T")

LONGEST = timedelta(days=7)  # one process may generate pairs for long while the others wait
LOST = re.compile(
    r"connection (was likely )?(closed|reset|refused)|broken pipe|closed by peer|gloo|nccl|\bsocket\b|tcpstore", re.I
)


@dataclass(frozen=True)
class Group:
    """The processes of one training, seen from one of them. Alone, everything here does nothing."""

    rank: int = 0
    size: int = 1
    shard: bool = False
    """Whether the base's weights are spread over the processes."""
    device: str = "cpu"

    @property
    def main(self) -> bool:
        """True for the one process that writes files and prints."""
        return self.rank == 0

    def described(self) -> Json:
        """The part that a stage's record keeps; like the device, it is in no key."""
        return {"processes": self.size, "sharded": self.shard}

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's rows of a batch; together the processes have each row once."""
        return rows if self.size == 1 else rows[self.rank :: self.size]

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.size == 1:
            return value
        t = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(t)
        return float(t)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every parameter's gradient becomes the sum over all processes; one without rows adds zeros."""
        if self.size == 1:
            return
        every = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in every])
        torch.distributed.all_reduce(flat)
        for p, g in zip(every, flat.split([p.numel() for p in every])):
            p.grad = g.view_as(p)

    def as_main(self, value: T) -> T:
        """The main process's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=torch.device(self.device))
        return box[0]

    def tensors_as_main(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The main process's tensors, bit for bit, in every process."""
        copies = {}
        for name in sorted(tensors):
            t = tensors[name].detach().clone().contiguous()
            if self.size > 1:
                there = t.to(self.device)
                torch.distributed.broadcast(there, src=0)
                t = there.to(t.device)
            copies[name] = t
        return {name: copies[name] for name in tensors}

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.total(0.0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block before the others enter it."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    def passes(
        self, rows: Sequence[T], lots: Callable[[Sequence[T]], list[Sequence[T]]]
    ) -> Iterator[tuple[Sequence[T], float]]:
        """This process's rows in the lots that `lots` makes of them, each with its weight.

        Gathering weights needs every process at every pass. So where they are sharded, a process that has fewer lots
        goes along with the first row, at weight 0.
        """
        mine = lots(self.share(rows))
        yield from ((lot, 1.0) for lot in mine)
        if self.shard:
            most = max(len(lots(rows[rank :: self.size])) for rank in range(self.size))
            yield from [(rows[:1], 0.0)] * (most - len(mine))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Errors that come from another process being gone are raised as one sentence that says so."""
        try:
            yield
        except RuntimeError as e:
            if self.size > 1 and LOST.search(str(e)):
                raise ProcessLost(
                    f"another process of this training ended or cannot be reached ({_short(e)}); what was done is kept, "
                    "and the same command goes on from it."
                ) from e
            raise
        if self.size > 1:
            torch.distributed.destroy_process_group()


def _short(e: Exception) -> str:
    """The sentence of an error of torch, without the place in torch's sources."""
    return " ".join(re.sub(r"\[[^]]*/[^]]*\]", " ", str(e)).split())[:240].rstrip(".")


ALONE = Group()


def several() -> bool:
    """True where this process was started as one of several, by torchrun, accelerate or `ws` itself."""
    count = os.environ.get("WORLD_SIZE") or "1"
    if not count.isdecimal():
        raise ValueError(f"WORLD_SIZE, the number of processes that a launcher sets, is {count!r}; unset it")
    return int(count) > 1


def join(*, cpu: bool, shard: bool = False) -> Group:
    """The group this process was started in."""
    shard = shard or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    if not several():
        if shard:
            raise ValueError("one process has nothing to shard with; give `processes`, or start ws by torchrun")
        return ALONE
    from accelerate import PartialState

    try:
        state = PartialState(cpu=cpu, timeout=LONGEST)
    except RuntimeError as e:
        raise Failed(f"the processes of this training cannot reach each other ({_short(e)}).") from e
    device = "cpu" if state.device.type == "cpu" else str(state.device)  # accelerate numbers the CPU, which is one
    return Group(state.process_index, state.num_processes, shard, device)


def spread(blocks: Iterable[nn.Module], network: nn.Module, whole: Iterable[nn.Parameter], device: str) -> None:
    """Spread the weights of a network over the processes, block by block; the parameters in `whole` stay whole.

    It cannot be taken back: a base that was sharded is good for training and for nothing else.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    unsharded = set(whole)
    turn_back(network)
    mesh = init_device_mesh(torch.device(device).type, (torch.distributed.get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh, ignored_params=unsharded)
    # embedding and head too are given back after a pass, which by default they are only after a backward one
    fully_shard(network, mesh=mesh, ignored_params=unsharded, reshard_after_forward=True)
    for p in unsharded:  # what is not sharded is not moved either
        p.data = p.data.to(device)
