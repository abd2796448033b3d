"""Losses of training sequences: one optimiser step, or a mean, over as many rows at once as memory takes.

Rows of like length go together, so that little is computed for padding, and only target positions meet the head. What
goes together is a matter of memory and time: the batch of a step, and so the step, is the same.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ws.adapters import Attached
from ws.batches import CPU_TOKENS, SHARE, free_memory, is_out_of_memory
from ws.errors import Unsupported
from ws.models.head import target_logprobs
from ws.train.processes import ALONE, Group
from ws.train.sequences import Row

log = logging.getLogger(__name__)

ACTIVATIONS = 3 << 27  # bytes kept for the backward pass: some hundred tokens keep a core busy, more only costs memory


@dataclass
class Losses:
    """The losses of rows on one network with its adapter, summed over all processes."""

    attached: Attached
    device: torch.device
    """Where tokens go in."""
    group: Group = ALONE
    rows_at_once: int = 64
    """Halved when memory runs out."""
    tokens_at_once: int | None = None
    """The most that rows may have together, padding with them; None where their number is the only limit."""

    def step(self, rows: Sequence[Row], optimizer: torch.optim.Optimizer) -> float:
        """One optimiser step over all rows of a batch; the mean loss per target token before it."""
        targets = self.targets(rows)

        def backward(some: Sequence[Row], weight: float) -> float:
            loss = weight * self._loss(some) / targets
            loss.backward()
            return float(loss.detach())

        total = self._in_lots(rows, backward, again=optimizer.zero_grad)
        self.group.add_gradients(self.attached.trainable.values())
        nn.utils.clip_grad_norm_(self.attached.trainable.values(), 1.0)
        optimizer.step()
        return total

    def mean(self, rows: Sequence[Row]) -> float:
        """The mean loss per target token."""
        with torch.no_grad():
            total = self._in_lots(rows, lambda some, weight: weight * float(self._loss(some)), again=lambda: None)
        return total / self.targets(rows)

    def targets(self, rows: Sequence[Row]) -> int:
        """The number of tokens that count for the loss."""
        return sum(len(r.ids) - r.start for r in rows)

    def fit(self, rows: Sequence[Row]) -> None:
        """Set the tokens at once by what the longest row keeps for its backward pass.

        Only on a CPU, where memory that runs out kills the process; an accelerator raises, and is quick with many.
        """
        if self.device.type != "cpu" or self.group.shard:
            return
        longest = max(rows, key=lambda r: len(r.ids))
        per_token = kept_bytes(self.attached.network, lambda: self._loss([longest])) / len(longest.ids)
        self.tokens_at_once = tokens_that_fit(per_token, free_memory(self.device))

    def _in_lots(
        self, rows: Sequence[Row], part: Callable[[Sequence[Row], float], float], again: Callable[[], None]
    ) -> float:
        """The sum of `part` over all processes and as many rows at once as memory takes; `again` clears a failed try."""
        ordered = sorted(rows, key=lambda r: -len(r.ids))
        while True:
            try:
                again()
                own = sum(part(some, weight) for some, weight in self.group.passes(ordered, self._lots))
                break
            except (torch.OutOfMemoryError, RuntimeError) as e:
                if not is_out_of_memory(e):
                    raise
                if self.group.shard:  # the others are in the middle of a pass, and cannot go back
                    raise Unsupported(
                        f"memory ran out with {self.rows_at_once} rows at once; give a smaller `rows_at_once`, or "
                        "`gradient_checkpointing`."
                    ) from e
                most = max(map(len, self._lots(ordered)))
                if most == 1:
                    raise
                self.rows_at_once = most // 2
                log.warning("out of memory; %d rows at once from here on", self.rows_at_once)
        return self.group.total(own)

    def _lots(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        """Rows, the longest first, as they go through the network together."""
        lots, at = [], 0
        while at < len(rows):
            fit = self.rows_at_once
            if self.tokens_at_once is not None:
                fit = min(fit, max(1, self.tokens_at_once // len(rows[at].ids)))
            lots.append(rows[at : at + fit])
            at += fit
        return lots

    def _loss(self, rows: Sequence[Row]) -> Tensor:
        """Summed cross-entropy of the target tokens."""
        inputs, index = padded(rows, self.device)
        targets = [t for r in rows for t in r.ids[r.start :]]
        logp = target_logprobs(self.attached.network, index, targets, whole=self.group.shard, **inputs)
        return -logp.sum()


def padded(rows: Sequence[Row], device: torch.device) -> tuple[dict[str, Tensor], list[int]]:
    """Rows as the inputs of one pass, and the positions that say their targets, counted over all rows."""
    width = max(len(r.ids) for r in rows)
    ids = torch.tensor([[*r.ids, *[0] * (width - len(r.ids))] for r in rows], device=device)
    index = [at * width + i for at, r in enumerate(rows) for i in range(r.start - 1, len(r.ids) - 1)]
    # padding is on the right, where nothing that counts looks: no mask, and the quicker kernels
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, index


def tokens_that_fit(per_token: float, free: int | None) -> int:
    """The tokens that go through the network together on a CPU, by what each of them keeps and the free bytes."""
    room = ACTIVATIONS if free is None else min(ACTIVATIONS, SHARE * free)
    return max(1, min(CPU_TOKENS, int(room / max(1.0, per_token))))


def kept_bytes(
    network: nn.Module, loss: Callable[[], Tensor], *, counts: Callable[[Tensor], bool] = lambda t: True
) -> int:
    """Bytes of the tensors besides parameters that autograd keeps of a loss; `counts` may leave some out."""
    storages = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: list[Tensor] = []  # held, or another could take its place in memory and look the same

    def keep(t: Tensor) -> None:  # handing it back would make a circle of the loss and what it keeps, never freed
        at = t.untyped_storage()._cdata
        if at not in storages and counts(t):
            storages.add(at)
            kept.append(t.detach())

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss()
    return sum(t.untyped_storage().nbytes() for t in kept)
