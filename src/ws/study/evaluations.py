"""Evaluations with a memory: each is made once, found again by its key, and its table comes from its rows.

table, record = make_eval(base, "dilemmas", direction, folder, alphas=(-1, 0, 1), method="ws:lora", out=out)
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.direction import Direction
from ws.errors import BadFile, Unsupported
from ws.eval import harness, protocol, run, summarize
from ws.eval import pairs as pairs_eval
from ws.eval.protocol import Protocol, items_of, measure
from ws.eval.scoring import Dial, Item, Score
from ws.methods import Method, as_method, with_origin
from ws.models.chat import Chat
from ws.models.load import Base
from ws.pairs import Pairs, marks_in
from ws.records import Place, Record, slug
from ws.study.keys import base_key, beside, hash_of
from ws.train import TrainSettings

if TYPE_CHECKING:
    import pandas as pd


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

    record = Place.below(folder / "eval" / name, "eval", told, inputs).once(make, beside=beside(base, by))
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
        unsteered = place.once(zero, beside=beside(base)).folder
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
    record = Place.below(folder / "eval" / harness.NAME, "eval", told, inputs).once(make, beside=beside(base, by))
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
    record = place.once(make, beside=beside(base))
    folder = record.folder
    kept = pd.read_parquet(folder / "scores.parquet")
    if kept["row_key"].tolist() != [i.row_key for i in items]:
        raise BadFile(f"{folder}/scores.parquet is not what was written there; move the folder away and run again.")
    return [Score(**row) for row in kept.drop(columns="row_key").to_dict("records")], record
