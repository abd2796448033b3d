"""`ws inspect`: what a direction file is."""

from collections.abc import Mapping
from dataclasses import dataclass

from ws.cli.diff import rest
from ws.cli.named import DIRECTION, PLACE, RUN, WAYS, name_of
from ws.cli.options import Options, verb
from ws.cli.result import VerbResult
from ws.cli.screen import Screen, safe_text
from ws.cli.tables import expert_map, heat_map
from ws.diff import NamedDirection, base_of, lookup
from ws.direction import Direction
from ws.direction.card import facts, samples
from ws.direction.direction import WeightOf
from ws.direction.forms import Factors
from ws.errors import DirectionMismatch
from ws.models import open_checkpoint
from ws.models.checkpoint import Checkpoint
from ws.numbers import alpha_of


@dataclass(frozen=True)
class Inspected:
    """Where what is inspected lies."""

    model: str | None = None
    """Its base, to measure the change against; read where the forms need it, and named by the direction itself."""
    out: str = "out"
    """Output folder, below which a run is found by its name."""


@dataclass(frozen=True, eq=False)
class DirectionFile(VerbResult):
    """A direction in its file, and beside its base where that was read."""

    place: NamedDirection
    direction: Direction
    base: Checkpoint | None

    def as_json(self) -> Mapping[str, object]:
        return {
            "file": str(self.place.file.resolve()),
            "bytes": self.place.file.stat().st_size,
            "hash": self.direction.content_hash,
            "modules": len(self.direction.forms),
            "forms": self._kinds,
            "ranks": self._ranks,
            "norm": self.direction.norm(self._weight),
            "norms": self.direction.norms(self._weight),
            "expert_norms": self.direction.expert_norms(),
            "provenance": dict(self.direction.provenance),
            "card": dict(self.direction.card),
            "other_bytes": self._other_bytes,
        }

    def show(self, screen: Screen) -> None:
        d = self.direction
        provenance = d.provenance
        base, training = provenance.get("base") or {}, provenance.get("training") or {}
        rate = f", lr {training['lr']:g}, best step {training['step']}" if training.get("lr") else ""
        ranks = f", rank {', '.join(map(str, self._ranks))}" if self._ranks else ""
        screen.show(
            f"[bold]{safe_text(str(self.place.file.resolve()))}[/]\n"
            f"base       {base.get('id')} {base.get('revision') or ''} ({(d.fingerprint or 'unknown')[:16]}, "
            f"weights {(base.get('weights_hash') or 'unknown')[:16]})\n"
            f"made by    {provenance.get('adapter') or provenance.get('made_by')}, {provenance.get('mode') or 'combined'}{rate}\n"
            f"forms      {' + '.join(self._kinds)}{ranks}\n"
            f"size       |dW| {d.norm(self._weight):.4g} over {len(d.forms)} modules, {self.place.file.stat().st_size / 1e6:.2f} MB\n"
            f"content    {d.content_hash[:16]}, every value finite, every tensor accounted for"
        )
        for what, text in facts(d):
            screen.show(f"{what:<10} {safe_text(text)}")
        for question, answers in samples(d):
            screen.show(f"\n“{safe_text(question)}”")
            for alpha, text in answers:
                screen.show(f"{alpha_of(alpha):>8}   {safe_text(' '.join(text.split()))}")
        screen.show("")
        if self.base is not None and self._other_bytes:
            screen.show(
                f"note: {safe_text(self.base.id)} has the fingerprint of its base and other bytes (weights "
                f"{self._other_bytes[:16]}): another precision, or an edit of a few values. It can be steered; compare its "
                "numbers with care.\n"
            )
        if (left_out := provenance.get("left_out")) and left_out["tensors"]:
            screen.show(f"note: {rest(left_out)}\n")
        cut = provenance.get("compressed") or {}
        if cut.get("kept") is not None and cut["kept"] < 1 - 1e-9:
            screen.show(f"note: cut to rank {cut['rank']}, which keeps {100 * cut['kept']:.1f} % of the energy.\n")
        screen.show(heat_map(d.norms(self._weight)))
        if experts := d.expert_norms():
            screen.show("")
            screen.show(expert_map(experts))

    @property
    def _weight(self) -> WeightOf | None:
        """The base's weights, which some forms need for their size."""
        return self.base.weight if self.base is not None else None

    @property
    def _kinds(self) -> list[str]:
        return sorted({f.kind for forms in self.direction.forms.values() for f in forms})

    @property
    def _ranks(self) -> list[int]:
        return sorted({f.rank for forms in self.direction.forms.values() for f in forms if isinstance(f, Factors)})

    @property
    def _other_bytes(self) -> str | None:
        """The hash of the base's weights, where it is not the one that the direction was made on."""
        before = (self.direction.provenance.get("base") or {}).get("weights_hash")
        if self.base is None or before in (None, self.base.weights_hash):
            return None
        return self.base.weights_hash


@verb(Inspected, place=PLACE, direction=DIRECTION, run=RUN)
def inspect(options: Options) -> VerbResult:
    """A direction file, and its base where --model names it or the forms need it."""
    name = name_of(options)
    if name is None:
        raise ValueError(f"ws inspect needs a direction: {WAYS}")
    place, model, base = lookup(name, options.of(Inspected).out), options.text("model"), None
    direction = place.direction(open_checkpoint(model) if model and place.is_adapter else None)
    if direction.reads_base or model:
        base = open_checkpoint(base_of(direction, model))
        if direction.fingerprint not in (None, base.fingerprint):
            raise DirectionMismatch(f"the direction was not made on {base.id}; name its base with --model.")
    return DirectionFile(place, direction, base)
