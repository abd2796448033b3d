"""A network on a CPU has its matrices laid out for few rows at a time, and is the same network."""

import copy

import pytest
import small
import torch

from ws.models.hashes import network_hash
from ws.models.modules import fingerprint, linears_of
from ws.models.turned import turn


def one_input_after_the_other(t: torch.Tensor) -> bool:
    return t.mT.is_contiguous() and not t.is_contiguous()


def test_a_base_has_its_matrices_turned_and_its_values_names_and_hashes_kept(tiny):
    assert all(one_input_after_the_other(x.module.weight) for x in tiny.linears.values())
    assert tiny.model.get_output_embeddings().weight.is_contiguous()
    plain = copy.deepcopy(tiny.model)
    for p in plain.parameters():
        p.data = p.data.contiguous()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), tiny.model.parameters(), strict=True))
    assert fingerprint(plain) == fingerprint(tiny.model)
    assert network_hash(plain) == network_hash(tiny.model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_stays_as_it_is(dtype):
    network = small.model("llama").to(dtype)
    turn(network)
    assert all(x.module.weight.is_contiguous() for x in linears_of(network))


def test_a_network_that_shares_its_embedding_with_its_head_keeps_it_row_by_row():
    network = small.model("qwen3")
    turn(network)
    assert network.get_input_embeddings().weight.is_contiguous()
    assert all(one_input_after_the_other(x.module.weight) for x in linears_of(network))


class Packed(torch.Tensor):
    """As quantised weights are: says that it is float32, and has no transpose."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func == torch.Tensor.mT.__get__:
            raise NotImplementedError(func)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_weights_of_a_kind_of_their_own_stay_as_they_are():
    network = small.model("llama")
    packed = [x.module for x in linears_of(network)][1]
    packed.weight = torch.nn.Parameter(packed.weight.data.as_subclass(Packed), requires_grad=False)
    with pytest.raises(NotImplementedError):
        _ = packed.weight.data.mT
    turn(network)
    assert type(packed.weight.data) is Packed
    others = [x.module for x in linears_of(network) if x.module is not packed]
    assert others and all(one_input_after_the_other(x.weight) for x in others)
