"""Losses of training sequences: one optimiser step, or a mean, over as many rows at once as memory takes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ws.adapters import Attached
from ws.batches import is_out_of_memory
from ws.errors import Unsupported
from ws.train.processes import ALONE, Group
from ws.train.sequences import Row

log = logging.getLogger(__name__)

IGNORED = -100  # a label that counts for no loss


@dataclass
class Losses:
    """The losses of rows on one network with its adapter, summed over all processes."""

    attached: Attached
    device: torch.device
    """Where tokens go in."""
    group: Group = ALONE
    rows_at_once: int = 64
    """Halved when memory runs out."""

    def step(self, rows: Sequence[Row], optimizer: torch.optim.Optimizer) -> float:
        """One optimiser step over all rows of a batch; the mean loss per target token before it."""
        targets = _targets(rows)

        def backward(some: Sequence[Row], weight: float) -> float:
            loss = weight * self._loss(some) / targets
            loss.backward()
            return float(loss.detach())

        total = self._in_parts(rows, backward, again=optimizer.zero_grad)
        self.group.add_gradients(self.attached.trainable.values())
        nn.utils.clip_grad_norm_(self.attached.trainable.values(), 1.0)
        optimizer.step()
        return total

    def mean(self, rows: Sequence[Row]) -> float:
        """The mean loss per target token."""
        rows = sorted(rows, key=lambda r: len(r.ids))
        with torch.no_grad():
            total = self._in_parts(rows, lambda some, weight: weight * float(self._loss(some)), again=lambda: None)
        return total / _targets(rows)

    def _in_parts(
        self, rows: Sequence[Row], part: Callable[[Sequence[Row], float], float], again: Callable[[], None]
    ) -> float:
        """The sum of `part` over all processes and as many rows at once as memory takes; `again` clears a failed try."""
        while True:
            try:
                again()
                own = sum(part(some, weight) for some, weight in self.group.passes(rows, self.rows_at_once))
                break
            except (torch.OutOfMemoryError, RuntimeError) as e:
                if not is_out_of_memory(e):
                    raise
                if self.group.shard:  # the others are in the middle of a pass, and cannot go back
                    raise Unsupported(
                        f"memory ran out with {self.rows_at_once} rows at once; give a smaller `rows_at_once`, or "
                        "`gradient_checkpointing`."
                    ) from e
                if self.rows_at_once == 1:
                    raise
                self.rows_at_once = max(1, self.rows_at_once // 2)
                log.warning("out of memory; %d rows at once from here on", self.rows_at_once)
        return self.group.total(own)

    def _loss(self, rows: Sequence[Row]) -> Tensor:
        """Summed cross-entropy of the target tokens; logits only from the first target on."""
        width = max(len(r.ids) for r in rows)
        keep = width - min(r.start for r in rows) + 1
        padding = [width - len(r.ids) for r in rows]

        def padded(values: Sequence[Sequence[int]], fill: int) -> Tensor:
            return torch.tensor([[*v, *[fill] * n] for v, n in zip(values, padding)], device=self.device)

        ids = padded([r.ids for r in rows], 0)
        mask = padded([[1] * len(r.ids) for r in rows], 0)
        labels = padded([[IGNORED] * r.start + list(r.ids[r.start :]) for r in rows], IGNORED)
        logits = self.attached.network(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
        return nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            labels[:, width - keep + 1 :].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )


def _targets(rows: Sequence[Row]) -> int:
    """The number of tokens that count for the loss."""
    return sum(len(r.ids) - r.start for r in rows)
