"""Singular value decompositions of a base's own weights, computed once per model.

They lie in the cache folder (`WS_CACHE`, else `~/.cache/ws`) under the hash of the weights, a file per matrix. Kept are
the singular values and the vectors of the shorter side in float32; the longer side is one product with the weight. That is
less than the model in float32, and one matrix at a time is in memory.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ws.explain.bases.basis import NOTHING, quick
from ws.models.base import Base
from ws.models.hashes import cache_folder
from ws.models.modules import text_config, weight_of

log = logging.getLogger(__name__)

VERSION = 1
ROWS_AT_ONCE = 8192  # of a head, which has as many rows as there are tokens


@dataclass(frozen=True, eq=False)
class Spectrum:
    """`W = U diag(s) V^T`, largest first and without what is rounding; float64.

    Stored are the vectors of the shorter side. Those of the other are a product with W, which few ask for.
    """

    weight: Float[Tensor, "o i"]
    side: Float[Tensor, "n m"]
    s: Float[Tensor, "m"]

    @property
    def tall(self) -> bool:
        """Whether the shorter side is V."""
        return self.weight.shape[0] > self.weight.shape[1]

    @property
    def u(self) -> Float[Tensor, "o m"]:
        """The left singular vectors."""
        return self.weight @ self.side / self.s if self.tall else self.side

    @property
    def v(self) -> Float[Tensor, "i m"]:
        """The right singular vectors."""
        return self.side if self.tall else self.weight.mT @ self.side / self.s

    def onto_u(self, x: Float[Tensor, "o q"]) -> Float[Tensor, "m q"]:
        """`U^T x`, without U."""
        return self.side.mT @ (self.weight.mT @ x) / self.s[:, None] if self.tall else self.side.mT @ x

    def onto_v(self, x: Float[Tensor, "i q"]) -> Float[Tensor, "m q"]:
        """`V^T x`, without V."""
        return self.side.mT @ x if self.tall else self.side.mT @ (self.weight @ x) / self.s[:, None]


def spectrum_of(base: Base, name: str, expert: int | None = None) -> Spectrum:
    """The singular value decomposition of one matrix of a base; of experts that lie in one tensor, of one of them."""
    w = base.weight(name).detach()
    w, what = (w, name) if expert is None else (w[expert], f"{name} of expert {expert}")
    side, s = _kept(base, what, lambda: _shorter_side(w))
    return Spectrum(w.cpu().double(), side, s)


def unembedding(base: Base, *, gain: bool = True) -> tuple[Float[Tensor, "d m"], Float[Tensor, "m"]]:
    """Right singular vectors and values of the head, all d of them: what it reads from the stream, the strongest first.

    With `gain`, as it reads the stream: the final norm multiplies every coordinate by its own number first.
    """
    return _kept(base, "head with gain" if gain else "head", lambda: _of_head(base, gain))


def head_of(base: Base) -> Float[Tensor, "t d"]:
    """The unembedding, a row per token."""
    return weight_of(base.model.get_output_embeddings()).detach()  # type: ignore[operator]


def final_gain(base: Base) -> Float[Tensor, "d"]:
    """What the norm before the head multiplies every coordinate by, found by asking it.

    Its answer to a vector of +1 and -1 in turn, less its answer to the negative, whatever kind of norm it is.
    """
    width = head_of(base).shape[1]
    norm = _final_norm(base)
    turns = torch.tensor([1.0, -1.0]).repeat(width)[:width].to(base.device, torch.float32)
    with torch.inference_mode():
        up, down = (norm(x.to(base.dtype)[None, None]).float() for x in (turns, -turns))
    return (((up - down) / 2)[0, 0] * turns).cpu()


def _final_norm(base: Base) -> Callable[[Tensor], Tensor]:
    body = base.model.base_model
    for name in ("norm", "final_layernorm", "ln_f", "final_layer_norm"):
        for owner in (body, getattr(body, "language_model", None)):
            if callable(found := getattr(owner, name, None)):
                return found
    return lambda x: x


def width_of(base: Base) -> int:
    """The width of the residual stream."""
    return int(getattr(text_config(base.model), "hidden_size", 0)) or int(head_of(base).shape[1])


# ---------------------------------------------------------------- computing and keeping


def _shorter_side(w: Tensor) -> tuple[Tensor, Tensor]:
    """Singular vectors of the shorter side and singular values, through the eigenvectors of the smaller Gram matrix."""
    x = w.detach().to(quick(w.device), torch.float64)
    return _of_gram(x.mT @ x if x.shape[0] > x.shape[1] else x @ x.mT)


def _of_head(base: Base, gain: bool) -> tuple[Tensor, Tensor]:
    head = head_of(base)
    scale = final_gain(base) if gain else torch.ones(head.shape[1])
    device = quick(head.device)
    gram = torch.zeros(head.shape[1], head.shape[1], dtype=torch.float64, device=device)
    for at in range(0, len(head), ROWS_AT_ONCE):
        part = head[at : at + ROWS_AT_ONCE].to(device, torch.float64) * scale.to(device, torch.float64)
        gram += part.mT @ part
    return _of_gram(gram)


def _of_gram(gram: Tensor) -> tuple[Tensor, Tensor]:
    squares, vectors = torch.linalg.eigh(gram)
    s = squares.flip(0).clamp(min=0).sqrt()
    k = int((s > NOTHING * s[0]).sum())
    return vectors.flip(1)[:, :k].cpu(), s[:k].cpu()


def _kept(base: Base, what: str, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Vectors and values from the cache, or made and put there; one that cannot be read is made again."""
    name = hashlib.sha256(f"{what} {base.dtype}".encode()).hexdigest()[:24]  # of one checkpoint in another precision
    file = cache_folder() / "spectra" / base.weights_hash[:32] / f"{name}.{VERSION}.safetensors"
    with suppress(OSError, SafetensorError, KeyError):
        stored = load_file(file)
        return stored["vectors"].double(), stored["values"].double()
    vectors, values = make()
    _keep(file, {"vectors": vectors.float().contiguous(), "values": values.float().contiguous()})
    return vectors.float().double(), values.float().double()  # the same, kept or not


def _keep(file: Path, tensors: dict[str, Tensor]) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary)
        os.replace(temporary, file)
    except (OSError, SafetensorError) as e:
        with suppress(OSError):
            temporary.unlink()
        log.info("a decomposition is not kept (%s): it is computed again next time", e)
