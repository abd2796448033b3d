"""The head of a model on the positions that count, a part of them at a time.

With a large vocabulary the logits are the largest tensor of a pass: 600 KB a token at 150,000 words, and several times
that with their gradient. Here only chosen positions meet the head, in parts, each with its gradient before the next, so
that logits of all positions are never there at once. The logits are the model's own: its body is left out and
everything it does after it (a scale, a soft cap) is run as it stands.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ws.errors import Unsupported
from ws.types import Network

PART = 1 << 22  # logits at once: what is read and written over and over should stay near the processor
FEWEST = 32  # positions at once, or reading the head's weights takes longer than the sums
COPIES = 7  # tensors of that size at the same moment: logits, log-probabilities, their gradients; the rest as measured


def target_logprobs(
    network: nn.Module, index: Sequence[int], targets: Sequence[int], *, whole: bool = False, **inputs: Any
) -> Tensor:
    """The log-probability of every target in float32 or better; `index` counts positions over all rows of the batch.

    `whole` lets all chosen positions meet the head at once, inside the network's own pass: sharded weights are only there then.
    """
    model = causal(network)
    if whole or model.base_model is model:
        with _head_input(model, lambda states: _chosen(states, index)[None]):
            return _logprobs(network(**inputs, use_cache=False).logits[0], targets)
    states, output = _states(network, model, index, inputs)

    def logprobs(own: Tensor, words: Sequence[int]) -> Tensor:
        return _logprobs(_logits(model, output, own), words)

    parts = _parts(len(targets), max(FEWEST, PART // _vocabulary(model)))
    if torch.is_grad_enabled() and any(p.requires_grad for p in model.get_output_embeddings().parameters()):
        from torch.utils.checkpoint import checkpoint  # the head's own gradient needs all states again

        return torch.cat([checkpoint(logprobs, states[at], targets[at], use_reentrant=False) for at in parts])
    return _InParts.apply(states, targets, parts, logprobs, torch.is_grad_enabled())


def states_of(network: nn.Module, index: Sequence[int], **inputs: Any) -> Tensor:
    """The states of the chosen positions as they meet the head, (n, d)."""
    return _states(network, _with_body(network), index, inputs)[0]


def divergences(network: nn.Module, index: Sequence[int], others: Tensor, **inputs: Any) -> Tensor:
    """KL(network || other) over all words at every chosen position, in nats; `others` are the states of the other there."""
    model = _with_body(network)
    states, output = _states(network, model, index, inputs)

    def kl(own: Tensor, other: Tensor) -> Tensor:
        logits = (_logits(model, output, s) for s in (own, other))
        logp, logq = (x.to(torch.promote_types(x.dtype, torch.float32)).log_softmax(-1) for x in logits)
        return (logp.exp() * (logp - logq)).sum(-1)

    parts = _parts(len(others), max(FEWEST, PART // _vocabulary(model)))
    return _InParts.apply(states, others.to(states), parts, kl, torch.is_grad_enabled())


def _with_body(network: nn.Module) -> Network:
    model = causal(network)
    if model.base_model is model:
        raise Unsupported(
            f"{type(model).__name__} has no body apart from its head, so no KL to the base is trained with it."
        )
    return model


def _parts(n: int, most: int) -> list[slice]:
    """`n` positions in parts of nearly one size, so that each finds room where the one before it was."""
    count = max(1, -(-n // most))
    ends = [n * (i + 1) // count for i in range(count)]
    return [slice(start, end) for start, end in zip([0, *ends], ends)]


def causal(network: nn.Module) -> Network:
    """The model of the transformers library inside a network, which may wear an adapter's wrapper."""
    from transformers import PreTrainedModel

    model: Network = next(m for m in network.modules() if isinstance(m, PreTrainedModel))
    return model


def head_bytes(model: Network) -> int:
    """Bytes that the head takes at most, whatever the number of positions."""
    return COPIES * 4 * max(PART, FEWEST * _vocabulary(model))


def _vocabulary(model: Network) -> int:
    return int(model.get_output_embeddings().weight.shape[0])


def _states(
    network: nn.Module, model: Network, index: Sequence[int], inputs: dict[str, Any]
) -> tuple[Tensor, Callable[..., Any]]:
    """The states of the chosen positions as they meet the head, (n, d); and the class of what the body returns."""
    states: list[Tensor] = []
    outputs: list[Callable[..., Any]] = []

    def take(all_states: Tensor) -> Tensor:
        states.append(_chosen(all_states, index))
        return all_states[:, :0]

    handle = model.base_model.register_forward_hook(lambda _, args, output: outputs.append(type(output)))
    try:
        with _head_input(model, take):
            network(**inputs, use_cache=False)
    finally:
        handle.remove()
    return states[0], outputs[0]


@contextmanager
def _head_input(model: Network, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put `change` between the body of a model and its head."""
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


def _chosen(states: Tensor, index: Sequence[int]) -> Tensor:
    return states.flatten(0, 1).index_select(0, torch.tensor(index, device=states.device))


def _logits(model: Network, output: Callable[..., Any], states: Tensor) -> Tensor:
    """The logits of states (n, d), by the model's own code after its body."""
    body = model.base_model
    own = vars(body).get("forward")  # of another tool, where there is one
    body.forward = lambda *args, **kwargs: output(last_hidden_state=states[None])
    try:
        ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
        return model.forward(input_ids=ids, use_cache=False).logits[
            0
        ]  # not called: hooks of the whole pass are not meant
    finally:
        if own is None:
            del body.forward
        else:
            body.forward = own


def _logprobs(logits: Tensor, targets: Sequence[int]) -> Tensor:
    at = torch.tensor(targets, device=logits.device)[:, None]
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1).gather(-1, at)[:, 0]


class _InParts(torch.autograd.Function):
    """A number per row of `x` that depends on that row alone, with its gradient computed at once, part by part."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        targets: Any,
        parts: Sequence[slice],
        per_row: Callable[[Tensor, Any], Tensor],
        with_gradient: bool,
    ) -> Tensor:
        # what stays is there before the large parts come and go, or it would take their place and memory would grow
        values = x.new_empty(len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        gradient = torch.empty_like(x) if with_gradient else None
        for at in parts:
            own = x[at].detach()
            if gradient is None:
                values[at] = per_row(own, targets[at])
                continue
            # all that is kept here is gone at the end, so whoever counts what is kept has nothing to see
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
                of_part = per_row(own.requires_grad_(), targets[at])
                (gradient[at],) = torch.autograd.grad(of_part.sum(), own)
                values[at] = of_part.detach()
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    def backward(ctx: Any, of_values: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return of_values[:, None].to(gradient.dtype) * gradient, None, None, None, None
