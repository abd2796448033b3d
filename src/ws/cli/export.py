"""`ws export`: a direction for another tool."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ws.cli.named import DIRECTION, PLACE, RUN, WAYS, name_of
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen
from ws.cli.verify import show_verdicts
from ws.diff import base_of, lookup
from ws.direction import Direction
from ws.export import check_request
from ws.export import export as write
from ws.export.verify import Deviation
from ws.methods.file import is_method, load_method
from ws.methods.weights import direction_of
from ws.models.load import Base, refuse_place
from ws.models.locate import refuse_nowhere
from ws.models.modules import is_packed
from ws.settings import at_least, refuse_outside
from ws.steer import checked_strengths
from ws.study.options import Common
from ws.study.planning import load_base


@dataclass(frozen=True)
class Exported:
    """What `ws export` writes."""

    to: str = "peft"
    """peft (stock peft, vLLM), merged (a whole model), gguf-lora (a file that llama.cpp loads), or mergekit."""
    alpha: float = 1.0
    """Strength of the export."""
    alphas: tuple[float, ...] = ()
    """Several strengths that share one file of weights (peft only), e.g. --alphas=-1,0.5,1."""
    out: str | None = None
    """The folder to write; it must be new or empty."""
    rank: int | None = None
    """Cut the direction to this rank; needed where a family is not low rank and the target is."""
    model: str | None = None
    """The base: tiny, a hub id, id@revision, a folder or a GGUF file; the one the direction names if left out."""
    origin: str | None = None
    """The base the direction was made on, when the model is a fine-tune of it; of one made on a quantised base, the whole model, on which it is then exported."""
    dtype: str = "auto"
    """Precision the promise is computed in."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """CPU threads."""

    def __post_init__(self):
        refuse_place(device=self.device, dtype=self.dtype, threads=self.threads)
        checked_strengths([*self.alphas, self.alpha])
        refuse_outside(self, rank=at_least(1))


@dataclass(frozen=True, eq=False)
class Export(VerbResult):
    """An export and its proof."""

    folder: Path
    rank: int | None
    facts: Mapping[str, Any]
    verdicts: Sequence[Deviation]

    def as_json(self) -> Mapping[str, object]:
        return {"folder": str(self.folder.resolve()), **self.facts, "proof": [vars(v) for v in self.verdicts]}

    def show(self, screen: Screen) -> None:
        f = self.facts
        if "delivered" in f:
            screen.show(f"{100 * f['delivered']:.2f} % of the step survived rounding to the stored precision")
        if "estimate" in f:
            screen.show(_in_words(f["estimate"]))
        if f.get("kept_energy", 1.0) < 1 - 1e-9:
            screen.show(
                f"rank {self.rank} keeps {100 * f['kept_energy']:.1f} % of the energy; the logits' change is off by "
                f"{100 * f['cut_error']:.1f} % of the whole direction's"
            )
        show_verdicts(self.verdicts, screen)
        screen.show(str(self.folder.resolve()))
        screen.next(["verify", str(self.folder)])


@verb(Exported, place=PLACE, direction=DIRECTION, run=RUN)
def export(options: Options) -> VerbResult:
    """A direction as another tool reads it."""
    request, name = options.of(Exported), name_of(options)
    missing = [
        *([] if name else [f"a direction ({WAYS})"]),
        *([] if request.out else ["a folder to write (--out DIR)"]),
    ]
    if name is None or request.out is None:
        raise ValueError(f"ws export needs {' and '.join(missing)}: ws export RUN --out DIR")
    if options.has("alpha") and request.alphas:
        raise ValueError("give --alpha or --alphas, not both")
    alphas, folder = list(request.alphas or [request.alpha]), Path(request.out).expanduser()
    if request.origin:
        refuse_nowhere(request.origin)
    check_request(folder, to=request.to, alphas=alphas, rank=request.rank)
    place = lookup(name)
    common = Common(dtype=request.dtype, device=request.device, threads=request.threads)
    change = direction_of(load_method(place.path)) if is_method(place.path) else None
    source = (lambda: base_of(change, None)) if change is not None else place.base_model
    origin = load_base(replace(common, model=request.origin)) if request.origin else None
    direction = change or (place.direction(origin) if origin or not place.is_adapter else None)
    base = _base(common, request, origin, direction, source)
    direction = direction or place.direction(base)
    facts, verdicts = write(direction, base, folder, to=request.to, alphas=alphas, rank=request.rank, origin=origin)
    return Export(folder, request.rank, facts, verdicts)


def _base(
    common: Common, request: Exported, origin: Base | None, direction: Direction | None, source: Callable[[], str]
) -> Base:
    """The model that is named, or the one the direction was made on, quantised as it was then."""
    made_on = {} if direction is None else direction.provenance.get("base") or {}
    if origin is not None and request.model is None and origin.fits(made_on.get("fingerprint")):
        return origin
    by = made_on.get("quantize")
    whole = request.origin if by is not None else None  # which needs no other place to be read from
    base = load_base(replace(common, model=request.model or whole or source(), quantize=by))
    packed = any(is_packed(x.module) for x in base.linears.values())
    return base if packed or request.model is not None or origin is None else origin


def _in_words(estimate: Mapping[str, Any]) -> str:
    """What lies between the quantised base that a direction was learnt on and the whole one that it is exported on."""
    e = estimate
    return (
        f"made on a quantised base and exported on the whole one: their weights differ by {100 * e['weights']:.2g} % on the direction's "
        f"modules ({100 * e['worst']:.2g} % on {e['module']}), what they say by {e['kl']:.2g} nat per token (KL, {e['tokens']} tokens)"
    )
