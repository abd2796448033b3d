"""`honesty@-0.8` as the name of a model in stock vLLM: a plug-in that writes an adapter when its strength is first asked for.

    WS_VLLM_DIR=directions VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve MODEL --enable-lora --max-lora-rank 32 --max-loras 8

    directions/honesty/     what `ws export --to peft` wrote, or a folder with a low-rank direction.safetensors

vLLM finds `register` as an entry point, calls it in each of its processes, and asks the resolver about names that it does not
know. Without WS_VLLM_DIR nothing happens, and nothing of vLLM is imported before.

vLLM may read an adapter again at any time, and a server whose adapter is gone dies. So every process holds a shared lock on
what it gave out, and only adapters that nobody holds are evicted.
"""

import asyncio
import fcntl
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from ws.errors import BadFile, ExportRefused, WsError

if TYPE_CHECKING:
    from ws.direction.forms import LowRank

log = logging.getLogger("vllm.ws")  # below vLLM's own, so that it is seen where vLLM's lines are

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""A direction is a folder called like this: no path, nothing hidden."""
DIRECTION = "direction.safetensors"
CONFIG = "adapter_config.json"

LowRanks = Mapping[str, "LowRank"]


@dataclass(frozen=True)
class Settings:
    """Where directions lie and adapters go, and what a client may ask for."""

    folder: Path
    cache: Path
    step: float = 0.05
    """Strengths are rounded to multiples of this: every other one is an adapter more, on disk and in vLLM's list of models."""
    max_alpha: float = 2.0
    max_rank: int = 512
    """The largest rank that any vLLM takes. Give that of the server, and a larger one is refused before it is written."""
    keep: int = 256
    """Adapters on disk."""
    base: str = ""
    """What the directions call their base, where vLLM calls its model otherwise."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Settings | None":
        """What the environment says; None where it names no folder. What cannot be meant stops the server as it starts."""
        if not (folder := environment.get("WS_VLLM_DIR", "")):
            return None
        from ws.models.hashes import cache_folder

        if not Path(folder).expanduser().is_dir():
            raise ValueError(f"WS_VLLM_DIR is a folder of directions, and there is none at {folder}")
        cache = Path(environment.get("WS_VLLM_CACHE") or cache_folder() / "vllm").expanduser()
        numbers = {
            key: _positive(f"WS_VLLM_{key.upper()}", text, kind)
            for key, kind in (("step", float), ("max_alpha", float), ("max_rank", int), ("keep", int))
            if (text := environment.get(f"WS_VLLM_{key.upper()}", ""))
        }
        base = environment.get("WS_VLLM_BASE", "")
        return cls(Path(folder).expanduser().resolve(), cache.resolve(), base=base, **numbers)  # type: ignore[arg-type]


def _positive(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        number = kind(text)
        if not (math.isfinite(number) and number > 0):
            raise ValueError
    except ValueError:
        raise ValueError(f"{name} is a {'whole ' * (kind is int)}number above 0; got {text!r}") from None
    return number


@dataclass(frozen=True, eq=False)
class Adapters:
    """The adapter of every strength that was asked for, each written once."""

    settings: Settings
    held: dict[str, int] = field(default_factory=dict)
    """The open, locked folder of each adapter that this process gave out."""

    def folder_of(self, name: str, base: str) -> Path | None:
        """The adapter of a name such as `a@0.5+b@-1`, or of `base`; None, and a line in the log, where there cannot be one."""
        try:
            strengths = self.strengths(name)
            return None if strengths is None else self._written(strengths, base)
        except WsError as e:
            log.warning("no adapter for %r: %s", name[:200], e)
            return None

    def strengths(self, name: str) -> dict[str, float] | None:
        """Each direction of a name and its strength on the grid; None for a name that is not of ours."""
        from ws.serve.strengths import BASE, PLUS, named

        if name == BASE:
            first = next((p.name for p in sorted(self.settings.folder.iterdir()) if self._place(p.name)), None)
            return {first: 0.0} if first else None
        parts = [named(part) for part in PLUS.split(name)]
        if not all(self._place(direction) for direction, _ in parts):
            return None
        if len({direction for direction, _ in parts}) < len(parts):
            raise ExportRefused("a direction is named twice; give its strength once.")
        most = self.settings.max_alpha
        if not all(isinstance(alpha, float) and abs(alpha) <= most for _, alpha in parts):
            raise ExportRefused(f"strengths are numbers from {-most:g} to {most:g} here (WS_VLLM_MAX_ALPHA).")
        step = self.settings.step
        rounded = {direction: round(round(alpha / step) * step, 9) for direction, alpha in sorted(parts)}
        return {direction: alpha for direction, alpha in rounded.items() if alpha} or dict.fromkeys(rounded, 0.0)

    def _place(self, name: str) -> Path | None:
        """The folder of a direction; None unless it, and what is read of it, lies in the configured folder."""
        place = self.settings.folder / name
        if not NAME.fullmatch(name) or not place.is_dir():
            return None
        files = _files(place)
        inside = all(
            p.resolve() == p and p.is_file() for p in files
        )  # `folder` is resolved: a link would lead elsewhere
        return place if files and inside else None

    def _written(self, strengths: Mapping[str, float], base: str) -> Path:
        from ws.export.target import whole_folder

        places = {name: self.settings.folder / name for name in strengths}
        content = [[[_hash(f) for f in _files(places[n])], alpha] for n, alpha in strengths.items()]
        key = hashlib.sha256(json.dumps([base, content]).encode()).hexdigest()[:32]
        adapter = self.settings.cache / key
        with self._alone():
            if not adapter.is_dir():
                total = combined([(self._factors(places[n], base), alpha) for n, alpha in strengths.items()])
                self._make_room()
                with whole_folder(adapter) as work:
                    self._write(total, work, base)
            if key not in self.held:
                self.held[key] = os.open(adapter, os.O_RDONLY)
                fcntl.flock(self.held[key], fcntl.LOCK_SH)
            os.utime(adapter)
        return adapter

    def _factors(self, place: Path, base: str) -> LowRanks:
        """The factors of a direction of this base; of another it is refused, because vLLM would write them where they do not fit."""
        made_on, low_ranks = read(place)
        if Path(made_on).name != Path(self.settings.base or base).name:
            raise BadFile(
                f"{place.name} was made on {made_on}, and this is {base}. If they are one model, say so by WS_VLLM_BASE={made_on}."
            )
        return low_ranks

    def _write(self, total: LowRanks, work: Path, base: str) -> None:
        from ws.direction.file import write_tensors
        from ws.export.peft import WEIGHTS, config, tensors_of
        from ws.export.target import of_one_rank

        rank, low_ranks = of_one_rank(dict(total))
        if rank > self.settings.max_rank:
            raise ExportRefused(
                f"together they have rank {rank}, and {self.settings.max_rank} is allowed; export some at a lower `rank`."
            )
        write_tensors(tensors_of(low_ranks), work / WEIGHTS, {"format": "pt"})
        (work / CONFIG).write_text(
            json.dumps(config(low_ranks, rank, rank, place=base)) + "\n"
        )  # the strength is in the factors

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, of all processes that share the cache."""
        from ws.records import locked

        self.settings.cache.mkdir(parents=True, exist_ok=True)
        lock = locked(self.settings.cache / ".lock")
        try:
            yield
        finally:
            lock.release()

    def _make_room(self) -> None:
        """Evict the adapters that were given out longest ago and that no process holds, until one more may be kept."""
        kept = [p for p in self.settings.cache.iterdir() if p.is_dir() and not p.name.startswith(".")]
        surplus = len(kept) - self.settings.keep + 1
        for adapter in sorted(kept, key=lambda p: p.stat().st_mtime):
            if surplus > 0 and _evicted(adapter):
                surplus -= 1
        if surplus > 0:
            raise ExportRefused(
                f"{self.settings.keep} adapters are in use already; start the server again, or raise WS_VLLM_KEEP."
            )


def _evicted(adapter: Path) -> bool:
    at = os.open(adapter, os.O_RDONLY)
    try:
        fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(adapter)
    except BlockingIOError:  # somebody serves it
        return False
    finally:
        os.close(at)
    return True


def _files(place: Path) -> list[Path]:
    """The files of a folder that its factors are read from; none where it holds no direction."""
    from ws.export.peft import WEIGHTS

    if (place / CONFIG).exists():
        return [place / CONFIG, place / WEIGHTS]
    return [place / DIRECTION] if (place / DIRECTION).exists() else []


def _hash(file: Path) -> str:
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read(place: Path) -> tuple[str, LowRanks]:
    """(the base it was made on, the change of each module at strength 1) of an exported adapter or a low-rank direction."""
    from ws.adapters.stock import plain_lora
    from ws.direction import load
    from ws.export.target import factors

    if (place / CONFIG).exists():
        low_ranks = plain_lora(place)
        return str(json.loads((place / CONFIG).read_text()).get("base_model_name_or_path")), low_ranks
    direction = load(place / DIRECTION)
    return str((direction.provenance.get("base") or {}).get("id")), factors(direction, "an adapter")


def combined(parts: Sequence[tuple[LowRanks, float]]) -> LowRanks:
    """The sum of alpha times each, exactly: factors stand side by side and ranks add. Where all are 0, zeros of rank 1."""
    from ws.direction.forms import LowRank

    terms: dict[str, list[LowRank]] = {}
    for low_ranks, alpha in parts:
        for module, form in low_ranks.items():
            terms.setdefault(module, []).append(LowRank(form.b.double() * alpha, form.a.double()))
    for module, own in terms.items():
        if len({(f.b.shape[0], f.a.shape[1]) for f in own}) > 1:
            raise BadFile(f"directions of different models cannot be added; they disagree about {module}.")
    if not any(alpha for _, alpha in parts):
        return {m: LowRank(own[0].b[:, :1], own[0].a[:1]) for m, own in terms.items()}
    return {m: reduce(LowRank.plus, own[1:], own[0]) for m, own in terms.items()}


def register() -> None:
    """Give vLLM a resolver for the directions in WS_VLLM_DIR; without that variable, nothing."""
    if (settings := Settings.of(os.environ)) is None:
        return
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    adapters = Adapters(settings)

    class Resolver(LoRAResolver):
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
            folder = await asyncio.to_thread(adapters.folder_of, lora_name, base_model_name)
            if folder is None:
                return None
            number = int(folder.name[:12], 16) + 1  # vLLM counts its own instead; both are above 0
            return LoRARequest(lora_name=lora_name, lora_int_id=number, lora_path=str(folder))

    LoRAResolverRegistry.register_resolver("ws", Resolver())
