"""Matrices as a CPU multiplies few rows by them fastest: in memory one input after the other, and not one output after the other.

A matrix keeps its values, its shape and its name; what walks over it goes another way. On SmolLM2-135M a product of 4 to
64 rows, as a step of an answer is, takes half to five sixths of the time, and one of 512 as long as before
(docs/benchmarks.md). And its bits do not depend on how many rows there are, as they do below 16 rows otherwise. The head
stays as it is: as an embedding it is read one row at a time, and it is multiplied in blocks anyway.
"""

import torch
from torch import Tensor, nn

SIDE_BY_SIDE = 128
"""Rows up to which a product has the same bits for each. Of matrices that are wide to both sides, larger products have others."""


def turn(network: nn.Module) -> None:
    """Turn the matrices of a network's blocks, where it is on a CPU in single precision; elsewhere nothing is gained."""
    head = network.get_output_embeddings()  # type: ignore[operator]
    for layer in network.modules():
        if type(layer) is nn.Linear and layer is not head and gains(layer.weight):
            layer.weight.data = turned(layer.weight.data)


def turn_back(network: nn.Module) -> None:
    """Lay all of a network out as transformers does: what takes it apart knows no other way."""
    for p in network.parameters():
        p.data = p.data.contiguous()


def turned(matrix: Tensor) -> Tensor:
    """The same matrix, one input after the other."""
    return matrix.mT.contiguous().mT


def gains(matrix: Tensor) -> bool:
    """Whether products by a matrix get faster: on a CPU, in single precision."""
    plain = type(matrix.data) is Tensor  # a quantised one says that it is float32, and is not
    return plain and matrix.device.type == "cpu" and matrix.dtype == torch.float32
