"""The verbs with a memory: each stage of a study is made once, found again by its key, and never mistaken for another.

    plan = Plan(base, behavior, data=..., train=...)
    pairs, record = make_pairs(plan)
    sides, record = make_sides(plan)
    direction, record = make_direction(plan)
    table, record = make_eval(plan, "dilemmas", alphas=(-1, 0, 1))
    found, record = make_calibration(plan.base, method, CalibrateSettings(), plan.out)

Device and batch size are in no key: they do not change what is computed, only how. Precision and thread count are,
because they change the last bits.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from ws.adapters import Adapter, family, load_adapter, save_adapter
from ws.behaviors import Behavior
from ws.calibrate import PROTOCOL as CALIBRATE_PROTOCOL
from ws.calibrate import CalibrateSettings, Calibration, calibrate, prompt_targets, sets_of
from ws.data import GIVEN_PROTOCOL, GIVEN_SETTINGS, DataSettings, checked, data, topics_of
from ws.data import PROTOCOL as DATA_PROTOCOL
from ws.diff import diff, geometry
from ws.direction import Direction
from ws.direction import load as load_direction
from ws.endpoint import Endpoint
from ws.errors import BadFile, Unsupported
from ws.eval import harness, protocol, run, summarize
from ws.eval import pairs as pairs_eval
from ws.eval.protocol import Protocol, items_of, measure
from ws.eval.scoring import Dial, Item, Score
from ws.methods import Material, Method, as_method, with_origin
from ws.models.chat import Chat
from ws.models.checkpoint import checkpoint_of
from ws.models.hashes import stamp
from ws.models.load import Base
from ws.pairs import Check, Pairs, file_mark, folded, load_pairs, marks_in, save_pairs
from ws.plots import histories
from ws.processes import ALONE, Group
from ws.records import Place, Record, canonical, key_of, read, slug, write_json
from ws.sequences import Parts
from ws.tracking import UNTRACKED, Tracking
from ws.train import PROTOCOL as TRAIN_PROTOCOL
from ws.train import Sides, TrainSettings, default_train, train

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Plan:
    """One study: a base, a behavior, and how its pairs and adapters are made."""

    base: Base
    behavior: Behavior | None
    data: DataSettings
    train: TrainSettings
    out: Path = Path("out")
    pairs_file: Path | None = None
    """Pairs given by the user; then nothing is generated and `behavior` may be None."""
    mode: str = "contrastive"
    name: str = field(default="")
    endpoint: Endpoint | None = None
    """A server that answers in the base's place."""
    labels: int | None = None
    """A draw: the sides of every pair are swapped or not by its coin, and what is trained is a control."""

    def __post_init__(self):
        if self.behavior is None and self.pairs_file is None:
            raise ValueError("a study needs a behavior or a pairs file")
        if self.has_answers and self.endpoint is not None:
            raise ValueError(f"the answers of {self.name or 'this study'} are there already; leave out --generate-with")
        if not self.name:
            assert self.behavior is not None or self.pairs_file is not None
            object.__setattr__(self, "name", self.behavior.name if self.behavior else slug(self.pairs_file.stem))  # type: ignore[union-attr]

    @property
    def has_answers(self) -> bool:
        """Whether the answers are there already: in a file of pairs, or in the behavior's data set."""
        return self.pairs_file is not None or (self.behavior is not None and self.behavior.answers is not None)

    @property
    def seed(self) -> int:
        """The seed of initialisation and order."""
        return self.train.seed

    @property
    def run_folder(self) -> Path:
        """Where this study's training, directions and evaluations lie."""
        return self.train_place.folder.parent

    @cached_property
    def data_place(self) -> Place:
        """Where the pairs lie."""
        below = self.out / "data" / slug(self.base.id) / self.name
        return Place.below(below, "data", self.data_settings, self.data_inputs)

    @cached_property
    def train_place(self) -> Place:
        """Where both trained sides lie, in the run's folder."""
        settings = asdict(self.train)
        inputs = {**base_key(self.base), "pairs": self.data_place.key, "protocol": TRAIN_PROTOCOL}
        below = self.out / self.name / self.train.adapter
        if self.labels is not None:  # one level deeper than runs are looked for: it is none
            inputs["labels"] = self.labels
            below = self.out / self.name / "controls" / slug(f"random:labels:{self.labels}:{self.train.adapter}")
        run = f"{slug(self.base.id)}-s{self.seed}-{key_of('train', settings, inputs)[:8]}"
        return Place("train", below / run / "train", settings, inputs)

    @cached_property
    def direction_place(self) -> Place:
        """Where the direction lies, in the run's folder."""
        name = "direction" if self.mode == "contrastive" else f"direction-{self.mode}"
        inputs = {"train": self.train_place.key, **base_key(self.base)}
        return Place("direction", self.run_folder / name, {"mode": self.mode}, inputs)

    @cached_property
    def data_inputs(self) -> dict[str, Any]:
        """What the pairs depend on besides their settings."""
        checked_by = {"tokenizer": tokenizer_hash(self.base.tokenizer), "protocol": GIVEN_PROTOCOL}
        if self.pairs_file is not None:
            return {"files": [file_mark(self.pairs_file)], **checked_by}
        assert self.behavior is not None
        if self.behavior.answers is not None:
            return {"behavior": self.behavior.content_hash, **checked_by}
        asked = {"behavior": self.behavior.content_hash, "protocol": DATA_PROTOCOL}
        if self.endpoint is not None:  # not the base's own samples; tokenizer and context had a part in them
            known = {k: v for k, v in base_key(self.base).items() if k in ("fingerprint", "config", "tokenizer")}
            return {**known, **asked, "endpoint": self.endpoint.described()}
        return {**base_key(self.base), **asked}

    @property
    def data_settings(self) -> dict[str, Any]:
        """The settings the pairs are keyed by; where the answers are there already, only those that still matter."""
        if self.pairs_file is not None:
            return {"min_distinct": self.data.min_distinct}
        return {k: v for k, v in asdict(self.data).items() if not self.has_answers or k in GIVEN_SETTINGS}

    @cached_property
    def questions(self) -> dict[int, list[str]]:
        """What is asked, by the number of the question; known before any answer is."""
        if self.pairs_file is not None:
            rows = load_pairs(self.pairs_file, self.name).rows
        else:
            assert self.behavior is not None
            topics = topics_of(self.behavior, self.data)
            if self.behavior.answers is None:
                return {i: [p.text] for i, p in enumerate(topics)}
            chosen = {folded(p.text) for p in topics}
            rows = tuple(r for r in self.behavior.answers.rows if folded(r.prompt) in chosen)
        asked: dict[int, list[str]] = {}
        for row in rows:
            wordings = asked.setdefault(row.topic_idx, [])
            wordings += [row.prompt] if row.prompt not in wordings else []
        return asked

    @cached_property
    def parts(self) -> Parts:
        """The numbers of the questions that are learnt from, chosen on, and reported, whatever method learns."""
        return self.train.parts(self.questions)


def base_key(base: Base) -> dict[str, Any]:
    """All of a base that can change a result."""
    return {
        "fingerprint": base.fingerprint,  # says which base it is
        "weights": base.weights_hash,  # and that nothing of it was edited
        "config": config_hash(base.model),
        "tokenizer": tokenizer_hash(base.tokenizer),
        "dtype": str(base.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads() if (base.works_on or base.device).type == "cpu" else None,
    }


def tokenizer_hash(tokenizer: Any) -> str:
    """A hash of vocabulary, merges, special tokens and chat template; how it happens to be padding is not part of it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        told = _without_padding(backend.to_str())
    else:
        told = hashlib.sha256(canonical({"vocabulary": tokenizer.get_vocab()}).encode()).hexdigest()
    marks = {k: str(v) for k, v in sorted(tokenizer.special_tokens_map.items())}
    return hashlib.sha256(canonical([told, marks, str(getattr(tokenizer, "chat_template", ""))]).encode()).hexdigest()


@lru_cache(maxsize=4)  # every key of every stage asks, and a vocabulary is long
def _without_padding(backend: str) -> str:
    """A hash of a tokenizer's own JSON, less how it happens to be padding."""
    told = {k: v for k, v in json.loads(backend).items() if k not in ("padding", "truncation")}
    return hashlib.sha256(canonical(told).encode()).hexdigest()


def config_hash(model: Any) -> str:
    """A hash of what the model's config says of its computation, and of the tokens that end generation."""
    skip = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"}
    config = {k: str(v) for k, v in sorted(model.config.to_dict().items()) if k not in skip}
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return hashlib.sha256(canonical([config, str(ends)]).encode()).hexdigest()


def make_pairs(plan: Plan) -> tuple[Pairs, Record]:
    """The pairs of a study, generated, answered by a server, or taken from the user's file, made once."""

    def make(work: Path) -> dict[str, Any]:
        if plan.pairs_file is not None:
            pairs = load_pairs(plan.pairs_file, plan.name)
            pairs = checked(plan.base, pairs, min_distinct=plan.data.min_distinct)
        else:
            assert plan.behavior is not None
            pairs = data(plan.base, plan.behavior, plan.data, endpoint=plan.endpoint, work=work)
        save_pairs(pairs, work / "pairs.jsonl")
        checks = [asdict(c) for c in pairs.checks]
        return {
            "provenance": dict(pairs.provenance),
            "checks": checks,
            "n": len(pairs.rows),
            "content": pairs.content_hash,
        }

    record = plan.data_place.once(make, beside=_beside(plan.base))
    return read_pairs(record.folder, record.manifest), record


def read_pairs(folder: Path, manifest: Mapping[str, Any]) -> Pairs:
    """The pairs of a finished stage, which must be what was written there."""
    pairs = load_pairs(folder / "pairs.jsonl")
    if pairs.content_hash != manifest["content"]:
        raise BadFile(f"{folder}/pairs.jsonl is not what was written there; move the folder away and run again.")
    return Pairs(pairs.rows, manifest["provenance"], tuple(Check(**c) for c in manifest["checks"]))


def make_sides(
    plan: Plan, pairs: Pairs, *, group: Group = ALONE, rows_at_once: int | None = None, report_to: Sequence[str] = ()
) -> tuple[Sides, Record]:
    """Both trained sides of a study, made once; a killed training goes on from its last checkpoint.

    With `group`, every process calls this; the main one keeps the record, the others train along when it does.
    """
    folder = plan.train_place.folder
    if plan.labels is not None:
        pairs = pairs.shuffled(plan.labels)

    def fit(work: Path) -> Sides:
        tracking = Tracking(report_to, plan.run_folder / "tracking", _tracked(plan)) if group.main else UNTRACKED
        return train(plan.base, pairs, plan.train, work=work, group=group, rows_at_once=rows_at_once, tracking=tracking)

    def make(work: Path) -> dict[str, Any]:
        group.as_main(work)  # the others go along
        sides = fit(work)
        for place, both in ((work, sides), *((work / checkpoint_name(c), c) for c in sides.checkpoints)):
            for name, side in zip(("pos", "neg"), both):
                save_adapter(side, place / name, plan.base)
        theta = checkpoint_of(plan.base) if group.shard else plan.base  # weights that are spread cannot be read here
        return {
            "report": dict(sides.report),
            "geometry": dict(geometry(theta, *sides)),
            "base": plan.base.described(),
            **group.described(),
        }

    if group.main:
        record = plan.train_place.once(make, beside=_beside(plan.base))
        if record.reused:
            group.as_main(None)
    elif (work := group.as_main(None)) is not None:
        fit(work)
    group.wait()
    if not group.main:
        manifest = read(folder)
        if manifest is None:
            raise BadFile(f"this process does not see {folder}; give an --out that all machines share.")
        record = Record(folder, manifest, reused=True)
    report = record.manifest["report"]
    kept = [Sides(*_loaded(folder / checkpoint_name(step)), {"step": step}) for step in report["checkpoints"]]
    return Sides(*_loaded(folder), report, tuple(kept)), record


def checkpoint_name(of: Sides | int) -> str:
    """Where both sides of a checkpoint lie, beside the result."""
    return f"checkpoints/step-{of if isinstance(of, int) else of.report['step']}"


def _loaded(folder: Path) -> tuple[Adapter, Adapter]:
    return load_adapter(folder / "pos"), load_adapter(folder / "neg")


def _tracked(plan: Plan) -> dict[str, Any]:
    """What an experiment tracker is told of a study: names and hashes, and no path."""
    told = {
        "model": plan.base.id,
        "behavior": plan.name,
        "fingerprint": plan.base.fingerprint,
        "key": plan.train_place.key,
    }
    return {**told, "run": plan.run_folder.name}


def make_direction(plan: Plan, sides: Sides) -> tuple[Direction, Record]:
    """The direction of a study, made once."""

    def make(work: Path) -> dict[str, Any]:
        file = work / "direction.safetensors"
        made = diff(plan.base, *sides, mode=plan.mode, into=file)
        return {"content": made.content_hash, "norm": made.norm(plan.base.weight), "bytes": file.stat().st_size}

    record = plan.direction_place.once(make, beside=_beside(plan.base))
    folder = record.folder
    direction = load_direction(folder / "direction.safetensors")
    if direction.content_hash != record.manifest["content"]:
        raise BadFile(
            f"{folder}/direction.safetensors is not what was written there; move the folder away and run again."
        )
    return direction, record


def make_eval(
    base: Base,
    name: str,
    by: Direction | Method | None,
    folder: Path,
    *,
    alphas: Sequence[float],
    method: str,
    protocol_id: str | None = None,
    n_think: int | None = None,
    data_file: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    pairs: Pairs | None = None,
    settings: TrainSettings | None = None,
    origin: Base | None = None,
    strength: Mapping[str, Any] | None = None,
    out: Path | None = None,
) -> tuple[list[dict[str, Any]], Record]:
    """One evaluation of a direction or any other method over a grid of alphas, made once; the table comes from its rows.

    Below `out` the unsteered arm is kept once per base, protocol and questions, and reused for every method.
    `strength` says where the alphas come from, such as a calibration's two sides; a table reads its KL from there.
    """

    import pandas as pd

    chosen = protocol(name, protocol_id, n_think)
    steered = steered_by(by, origin)
    if steered is not None:
        steered.check_strengths(alphas)
    content = by.content_hash if by is not None else None
    told: dict[str, Any] = {
        "protocol": chosen.id,
        "alphas": sorted({0.0, *map(float, alphas)}),
        "limit": limit,
        "method": method,
        "seed": seed,
        **({} if strength is None else {"strength": dict(strength)}),
    }
    inputs: dict[str, Any] = {**base_key(base), "direction": content}
    inputs |= _origin_key(origin)
    if steered is not None and not steered.per_token:
        inputs["answers"] = "from the prompt's last token on"  # of an anchor, only the last token was once steered
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    test: Pairs | None = None
    if name == "pairs":
        if pairs is None or settings is None:
            raise ValueError(
                "the pairs evaluation needs a run, whose test questions it scores; give --run or --behavior"
            )
        if data_file is not None or limit is not None or n_think is not None:
            raise ValueError(
                "the pairs evaluation scores a run's own test questions; leave out --data and --limit, and --n-think"
            )
        test = pairs.of(settings.parts(pairs.topics).test)
        shared = ("seed", "val_share", "test_share", "allow_template_diff")
        told["split"] = {k: getattr(settings, k) for k in shared}
        inputs["pairs"] = test.content_hash
    else:  # the very questions, wherever they come from, so that a changed file is never taken for the old one
        inputs["items"] = hash_of(chosen.items(base, data_file))

    def make(work: Path) -> dict[str, Any]:
        if name == "pairs":
            dial = plain_dial(base, steered, name)
            assert test is not None and settings is not None
            result = pairs_eval.run(
                base,
                test,
                alphas=alphas,
                dial=dial,
                method=method,
                seed=seed,
                allow_template_diff=settings.allow_template_diff,
            )
            asked = pairs_eval.asked(test, result)
        else:
            items = items_of(chosen, base, data=data_file, limit=limit)
            reference = None if out is None else make_reference(base, chosen, items, out)[0]
            result = run(
                base, chosen, alphas=alphas, by=steered, method=method, seed=seed, items=items, reference=reference
            )
            asked = [shown(i) for i in items]
        pd.DataFrame(asked).to_parquet(work / "items.parquet", index=False)
        result.rows.to_parquet(work / "rows.parquet", index=False)
        return {"note": dict(result.note), "table": result.table(), "used": used_for(by, strength)}

    record = Place.below(folder / "eval" / name, "eval", told, inputs).once(make, beside=_beside(base, by))
    return summarize(chosen, rows_in(record)), record


def used_for(by: Direction | Method | None, strength: Mapping[str, Any] | None) -> dict[str, list[str] | None]:
    """The marks of the questions that a method was made from, None where it does not say, and that its strength was found on."""
    made = frozenset[str]() if by is None else marks_in(by.provenance)
    return {
        "to make": None if made is None else sorted(made),
        "to calibrate": list((strength or {}).get("questions", ())),
    }


def steered_by(by: Direction | Method | None, origin: Base | None = None) -> Method | None:
    """A direction as the method it is, with the base it was made on where the model is a fine-tune of that."""
    if by is None:
        return None
    return as_method(by) if origin is None else with_origin(as_method(by), origin)


def _origin_key(origin: Base | None) -> dict[str, Any]:
    """What of the base that a direction was made on is read when it steers a fine-tune of that."""
    return {} if origin is None else {"origin": {"weights": origin.weights_hash, "dtype": str(origin.dtype)}}


def plain_dial(base: Base, by: Method | None, name: str) -> Dial | None:
    """The dial of an evaluation that asks for itself; a method that changes what is asked has no say there."""
    if by is None:
        return None
    plain = Chat("Hello?")
    if by.chats(plain, 1.0) != (plain,):
        raise Unsupported(f"{by.name} changes what the model is asked, and {name} asks in its own words. Leave it out.")
    if not by.per_token and name == harness.NAME:
        raise Unsupported(
            f"{by.name} acts on answers and not on prompts, and {name} does not say where an answer starts. Leave it out."
        )
    return partial(by.at, base)


def rows_in(record: Record) -> "pd.DataFrame":
    """The scored rows of a finished evaluation."""
    import pandas as pd

    return pd.read_parquet(record.folder / "rows.parquet")


def make_harness(
    base: Base,
    tasks: harness.Tasks,
    by: Direction | Method | None,
    folder: Path,
    *,
    alphas: Sequence[float],
    method: str,
    limit: int | None = None,
    seed: int = 0,
    origin: Base | None = None,
    out: Path,
) -> tuple[list[dict[str, Any]], Record]:
    """Tasks of lm-evaluation-harness at every alpha, made once; strength 0 is measured once for all methods."""
    import pandas as pd

    steered = steered_by(by, origin)
    if steered is not None:
        steered.check_strengths(alphas)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    asked = {**base_key(base), "asked": tasks.described(limit)}

    def at(strengths: Sequence[float], dial: Any, work: Path, name: str) -> Any:
        rows, items = harness.run(base, tasks, alphas=strengths, dial=dial, method=method, seed=seed, limit=limit)
        rows.to_parquet(work / name, index=False)
        items.to_parquet(work / "items.parquet", index=False)
        return rows

    def zero(work: Path) -> dict[str, Any]:
        return {"n_rows": len(at([0.0], None, work, "scores.parquet"))}

    def make(work: Path) -> dict[str, Any]:
        told = {"limit": limit, "seed": seed}
        place = Place.below(out / "base" / slug(base.id) / harness.NAME, "reference", told, asked)
        unsteered = place.once(zero, beside=_beside(base)).folder
        rows = pd.read_parquet(unsteered / "scores.parquet").assign(method=method)
        if others := sorted({float(a) for a in alphas if a}):
            dial = plain_dial(base, steered, harness.NAME)
            rows = pd.concat([rows, at(others, dial, work, "rows.parquet")], ignore_index=True)
        else:
            pd.read_parquet(unsteered / "items.parquet").to_parquet(work / "items.parquet", index=False)
        rows.to_parquet(work / "rows.parquet", index=False)
        note = {"n_items": int(rows["unit_id"].nunique())}
        return {"note": note, "table": harness.table(rows), "used": used_for(by, None)}

    told = {
        "protocol": f"{harness.NAME}/{','.join(tasks.names)}",
        "alphas": sorted({0.0, *map(float, alphas)}),
        "limit": limit,
        "method": method,
        "seed": seed,
    }
    inputs = {**asked, "direction": None if by is None else by.content_hash, **_origin_key(origin)}
    record = Place.below(folder / "eval" / harness.NAME, "eval", told, inputs).once(make, beside=_beside(base, by))
    return harness.table(pd.read_parquet(record.folder / "rows.parquet")), record


def shown(item: Item) -> dict[str, Any]:
    """What a person needs of an item to judge its number: the question and which answers were set against each other."""
    wanted, unwanted = (
        (item.texts[0], item.texts[1] if item.texts[1:] else "")
        if item.texts
        else (" / ".join(w) for w in (item.words if item.label > 0 else item.words[::-1]))
    )
    return {
        "row_key": item.row_key,
        "prompt": item.chat.user,
        "system": item.chat.system or "",
        "anchor": item.anchor,
        "wanted": wanted,
        "unwanted": unwanted,
    }


def make_reference(base: Base, chosen: Protocol, items: Sequence[Item], out: Path) -> tuple[list[Score], Record]:
    """The scores of the unsteered model, measured once per base, protocol and questions, whatever steers it later."""
    import pandas as pd

    def make(work: Path) -> dict[str, Any]:
        scores = [s for (s,) in measure(base, chosen, items, alphas=[0.0])]
        pd.DataFrame([{"row_key": i.row_key, **asdict(s)} for i, s in zip(items, scores)]).to_parquet(
            work / "scores.parquet", index=False
        )
        return {"n_items": len(items)}

    told = {"protocol": chosen.id, "n_think": chosen.n_think, "cot": chosen.cot}
    inputs = {**base_key(base), "items": hash_of(items)}
    place = Place.below(out / "base" / slug(base.id) / chosen.eval, "reference", told, inputs)
    record = place.once(make, beside=_beside(base))
    folder = record.folder
    kept = pd.read_parquet(folder / "scores.parquet")
    if kept["row_key"].tolist() != [i.row_key for i in items]:
        raise BadFile(f"{folder}/scores.parquet is not what was written there; move the folder away and run again.")
    return [Score(**row) for row in kept.drop(columns="row_key").to_dict("records")], record


def hash_of(items: Sequence[Item]) -> str:
    """A hash of questions, as they are asked."""
    return hashlib.sha256(canonical([asdict(i) for i in items]).encode()).hexdigest()


def items_hash(base: Base, chosen: Protocol, data: str | None = None) -> str:
    """The same of all questions of a protocol, or of a file: read once per process, and again when the file changes."""
    asked = (chosen.eval, chosen.id, data, stamp(Path(data)) if data and Path(data).is_file() else None)
    known = _questions.setdefault(base, {})
    if asked not in known:
        known[asked] = hash_of(chosen.items(base, data))
    return known[asked]


_questions: WeakKeyDictionary[Base, dict[tuple, str]] = WeakKeyDictionary()  # weak: memory may hold no two models


def material(plan: Plan, train_of: Mapping[str, TrainSettings] | None = None) -> Material:
    """What methods are made from, of a study: its pairs and its trained sides are made when a method asks for them.

    `train_of` says how families other than the plan's own are trained; without it, by their defaults.
    """

    @cache
    def pairs() -> Pairs:
        return make_pairs(plan)[0]

    def settings(adapter: str) -> TrainSettings:
        given = {plan.train.adapter: plan.train, **(train_of or {})}
        # one split for all: what one method is tested on, no other has learnt from
        shared = {k: getattr(plan.train, k) for k in ("seed", "val_share", "test_share")}
        return replace(given.get(adapter) or default_train(plan.base, adapter), **shared)

    @cache
    def sides(adapter: str) -> Sides:
        return make_sides(replace(plan, train=settings(adapter)), pairs())[0]

    def controls(adapter: str, draw: int) -> Sides:
        return make_sides(replace(plan, train=settings(adapter), labels=draw), pairs())[0]

    return Material(
        plan.base,
        plan.behavior,
        questions=lambda: [text for number in sorted(plan.parts.train) for text in plan.questions[number]],
        pairs=lambda: pairs().of(plan.parts.train),
        held=lambda: pairs().of(plan.parts.val),
        sides=sides,
        controls=controls,
        seed=plan.seed,
    )


def method_folder(plan: Plan, method: Method) -> Path:
    """Where evaluations of a method lie, as those of a run do."""
    run = f"{slug(plan.base.id)}-s{plan.seed}-{method.content_hash[:8]}"
    return plan.out / plan.name / slug(method.name) / run


def calibration_place(
    base: Base,
    method: Method,
    settings: CalibrateSettings,
    out: Path,
    *,
    behavior: Behavior | None = None,
    like: Method | None = None,
) -> Place:
    """Where the strengths of a method at a budget lie, found or not."""
    sets = sets_of(base, settings, behavior)
    inputs = {
        **base_key(base),
        "method": method.content_hash,
        "prompts": [list(sets.calib), list(sets.audit)],
        "like": None if like is None else like.content_hash,
    }
    folder = out / "calibrate" / slug(base.id) / slug(method.name)
    return Place.below(folder, "calibrate", {**asdict(settings), "protocol": CALIBRATE_PROTOCOL}, inputs)


def strengths_at(place: Place) -> Calibration:
    """The strengths that were found at a place."""
    return Calibration.from_json(json.loads((place.folder / "calibration.json").read_text()))


def make_calibration(
    base: Base,
    method: Method,
    settings: CalibrateSettings,
    out: Path,
    *,
    behavior: Behavior | None = None,
    like: Method | None = None,
    plot: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Calibration, Record]:
    """The strengths of one method at a budget, found once; with `like`, at what that prompt does to the model.

    A picture takes as long as several strengths, so whoever draws many of them together leaves `plot` out.
    """
    place = calibration_place(base, method, settings, out, behavior=behavior, like=like)

    def make(work: Path) -> dict[str, Any]:
        targets = None if like is None else prompt_targets(base, like, settings, behavior=behavior)
        found = calibrate(
            base, method, settings=settings, targets=targets, prompts=sets_of(base, settings, behavior), progress=say
        )
        write_json(work / "calibration.json", found.as_json())
        return {"matched": found.matched, "method": method.name}

    record = place.once(make, beside=_beside(base))
    folder = place.folder
    told = json.loads((folder / "calibration.json").read_text())
    if plot and not (folder / "history.png").is_file():
        wanted = " and ".join(sorted({f"{told[side]['target']:.3g}" for side in ("neg", "pos")}))
        histories([told], f"{base.id}: search for {wanted} nat", folder / "history")
    return Calibration.from_json(told), record


def runs(out: Path) -> list[dict[str, Any]]:
    """Every run below an output folder: behavior, adapter, model, seed, and the stages that are done."""
    found = []
    for train_folder in sorted(out.glob("*/*/*/train")):
        manifest = read(train_folder)
        if manifest is None:
            continue
        run_folder = train_folder.parent
        evals = sorted({p.parent.parent.name for p in run_folder.glob("eval/*/[!.]*/manifest.json")})
        directions = sorted(p.parent.name for p in run_folder.glob("direction*/manifest.json"))
        found.append(
            {
                "behavior": run_folder.parent.parent.name,
                "adapter": run_folder.parent.name,
                "run": run_folder.name,
                "model": manifest["base"]["id"],
                "seed": manifest["settings"]["seed"],
                "stages": ["train", *directions, *(f"eval {e}" for e in evals)],
                "folder": str(run_folder.resolve()),
                "finished": manifest["finished"],
            }
        )
    return found


def fitted(settings: TrainSettings, of_preset: dict[str, Any]) -> TrainSettings:
    """A preset's training values, without those the family does not have."""
    has = family(settings.adapter).own_settings
    return replace(settings, **{k: v for k, v in of_preset.items() if has.get(k, True)})


def _beside(base: Base, by: Direction | Method | None = None) -> dict[str, Any]:
    """What a manifest says and no key holds; `made_on` is the base of what steers, which may have had other bytes."""
    made_on = None if by is None else by.provenance.get("base")
    return {
        "device": str(base.works_on or base.device),
        "model": {"id": base.id, "revision": base.revision, "source": base.source},
        **({"made_on": dict(made_on)} if made_on else {}),
    }
