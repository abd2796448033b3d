"""Any task of lm-evaluation-harness on a steered model: its questions and its scores, our rows and our pairing.

The model object itself is handed over inside `ws.steer`, so nothing is written to disk and nothing is unpickled. The
harness prints unpaired standard errors; here every sample is kept as a row and joined to itself at alpha 0. It asks as the
task says, without a chat template and with the task's own few-shot examples.

A row is a sample and one of its numbers (acc, acc_norm, exact_match ...). `margin`, for tasks with choices, is ours: the
log-likelihood of the right choice less that of the best other one, which moves long before an accuracy does.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.errors import BadFile, Unsupported
from ws.eval.protocol import COLUMNS, Metrics, Protocol
from ws.eval.questions import SCORES, Result, RunPairs, SharedQuestions, plain_dial
from ws.eval.scoring import Dial, Item
from ws.eval.table import by_alpha
from ws.methods.method import Method
from ws.models.load import Base
from ws.types import Json
from ws.version import how_to_add

if TYPE_CHECKING:
    import pandas as pd

NAME = "lm-eval"
ITEMS = "items.parquet"
BATCH = 16
TEXT = 2000  # characters of a prompt or an answer that a row keeps


def resolve(protocol_id: str) -> Protocol | None:
    """The protocol of tasks, lm-eval/TASK,TASK, or of one in a row, lm-eval/TASK@VERSION/FILTER."""
    return replace(PROTOCOL, id=protocol_id) if protocol_id.startswith(f"{NAME}/") else None


def _metrics(rows: "pd.DataFrame") -> Metrics:
    return {str(name): by_alpha(part) for name, part in rows.groupby("metric")}


def _task_folder(data: str | None) -> None:
    if data is not None and not Path(data).is_dir():
        raise BadFile(f"there is no folder with task files at {data}.")


def _no_items(base: Base, data: str | None) -> list[Item]:
    raise ValueError("lm-eval asks its own questions; use `ws eval lm-eval --tasks NAME`")


class TaskQuestions(SharedQuestions):
    """The questions of tasks, which the harness asks and scores."""

    def __init__(self, protocol: Protocol, base: Base, tasks: "Tasks", limit: int | None):
        super().__init__(protocol, base)
        self.tasks, self.limit = tasks, limit

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """The config and the questions of every task."""
        return {"asked": self.tasks.described(self.limit)}

    def check(self) -> None:
        """Refuse tasks whose data cannot be loaded."""
        _ = self.inputs

    def unsteered_key(self, seed: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The harness has a seed of its own use, so every seed has its unsteered arm."""
        return {"limit": self.limit, "seed": seed}, self.inputs

    def keep_unsteered(self, folder: Path, seed: int) -> Mapping[str, Any]:
        """The rows at 0, and what was asked."""
        rows, items = score_tasks(self.base, self.tasks, alphas=[0.0], seed=seed, limit=self.limit)
        rows.to_parquet(folder / SCORES, index=False)
        items.to_parquet(folder / ITEMS, index=False)
        return {"n_rows": len(rows)}

    def run(
        self, by: Method | None, *, alphas: Sequence[float], method: str, seed: int, unsteered: Path | None
    ) -> Result:
        """Every sample's numbers at every strength; those that are kept are not measured again."""
        import pandas as pd

        strengths = sorted({0.0, *map(float, alphas)})
        parts = []
        if unsteered is not None:
            parts.append(pd.read_parquet(unsteered / SCORES).assign(method=method))
            items = pd.read_parquet(unsteered / ITEMS)
            strengths.remove(0.0)
        if strengths:
            dial = plain_dial(self.base, by, NAME, marks_answers=False)
            rows, items = score_tasks(
                self.base, self.tasks, alphas=strengths, dial=dial, method=method, seed=seed, limit=self.limit
            )
            parts.append(rows)
        rows = pd.concat(parts, ignore_index=True)
        n = int(rows["unit_id"].nunique())
        note = {"n_items": n, "n_units": n, "smoke": self.limit is not None}
        return Result(self.protocol, rows, note, [{str(k): v for k, v in i.items()} for i in items.to_dict("records")])


def _of_tasks(
    protocol: Protocol, base: Base, data: str | None, limit: int | None, pairs: RunPairs | None
) -> TaskQuestions:
    names = protocol.id.removeprefix(NAME).removeprefix("/")
    return TaskQuestions(protocol, base, Tasks(names.split(",") if names else [], data), limit)


PROTOCOL = Protocol(
    NAME,
    NAME,
    "",
    _no_items,
    _metrics,
    {"margin": "prefers the right choice by more log-likelihood"},
    ask=_of_tasks,
    takes=("data", "limit", "tasks", "include_path"),
    because="whose questions come from `tasks`",
    needs="tasks",
    read=_task_folder,
    incomparable="it asks in its own words",
)
PROTOCOLS = (PROTOCOL,)


class Tasks:
    """Tasks of the harness by name, found among its own and those in a folder of the user's."""

    def __init__(self, names: Sequence[str], include_path: str | None = None):
        lm_eval = _installed()
        from lm_eval.tasks import TaskManager

        if not names:
            raise ValueError("lm-eval needs `tasks`, e.g. `tasks=arc_easy,winogrande`")
        self.names, self.version = list(names), str(lm_eval.__version__)
        self.manager = TaskManager(include_path=include_path)
        if unknown := [n for n in self.names if not self.manager.match_tasks([n])]:
            close = [t for t in self.manager.all_tasks if any(u.casefold()[:4] in t.casefold() for u in unknown)]
            raise ValueError(
                f"lm-eval {self.version} knows no task {', '.join(unknown)}"
                f"{'; close are ' + ', '.join(close[:5]) if close else ''}. Your own tasks are read from `include_path=DIR`."
            )

    def described(self, limit: int | None) -> Json:
        """What is asked: the config and a hash of the questions of every task, so that a changed file is a new key."""
        hashes = {}
        for name, task in self._loaded().items():
            docs = [d for _, d in task.doc_iterator(limit=limit)]
            config = {k: str(v) for k, v in task.dump_config().items()}
            hashes[name] = _hash([config, docs])
        return {"lm_eval": self.version, "tasks": hashes}

    def _loaded(self) -> Json:
        try:
            with _quiet():
                return self.manager.load(self.names)["tasks"]
        except (OSError, ValueError, KeyError) as e:  # a data set that is neither here nor reachable
            raise BadFile(
                f"the data of {', '.join(self.names)} cannot be loaded ({type(e).__name__}: {' '.join(str(e).split())[:160]})."
            ) from None


def score_tasks(
    base: Base,
    tasks: Tasks,
    *,
    alphas: Iterable[float],
    dial: Dial | None = None,
    method: str = "base",
    seed: int = 0,
    limit: int | None = None,
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(rows, items): every sample's numbers at every alpha, and what was asked."""
    import pandas as pd
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    records: list[Json] = []
    questions: dict[str, Json] = {}
    for alpha in alphas:
        if alpha and dial is None:
            raise ValueError(f"alpha {alpha:g} needs something to steer by")
        with _quiet(), dial(alpha) if alpha and dial is not None else nullcontext():  # type: ignore[arg-type]
            model = HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=BATCH)
            results = simple_evaluate(
                model=model,
                tasks=tasks.names,
                limit=limit,
                bootstrap_iters=0,
                log_samples=True,
                task_manager=tasks.manager,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=1234,
            )
        for task, samples in results["samples"].items():
            for s in samples:
                key = f"lm-eval/{task}@{results['versions'].get(task, 0)}/{s['filter']}"
                for metric, value in _numbers(s).items():
                    row = f"{task}/{s['doc_id']}/{s['filter']}/{metric}"
                    records.append(
                        dict.fromkeys(COLUMNS, "")
                        | {"eval": NAME, "protocol": key, "metric": metric, "unit_id": f"{task}/{s['doc_id']}"}
                        | {"row_key": row, "method": method, "alpha": float(alpha), "seed": seed, "y": value}
                        | {"arm": "ref" if alpha == 0 else "pos" if alpha > 0 else "neg", "logratio": math.nan}
                        | {"pmass": math.nan, "label": 1, "forced_close": False, "text": _answer(s), "kind": task}
                    )
                    questions[row] = {
                        "row_key": row,
                        "prompt": str(s["arguments"][0][0])[-TEXT:],
                        "wanted": _wanted(s),
                    }
    if not records:
        raise BadFile(f"{', '.join(tasks.names)} gives no number per sample, so nothing can be paired.")
    return pd.DataFrame.from_records(records, columns=list(COLUMNS)), pd.DataFrame(list(questions.values()))


def _numbers(sample: Json) -> dict[str, float]:
    """The plain numbers of a sample; lists and tuples belong to a whole corpus (word_perplexity) and have no row."""
    numbers = {m: float(sample[m]) for m in sample["metrics"] if isinstance(sample[m], (int, float))}
    likelihoods, target = sample["filtered_resps"], sample["target"]
    choices = len(likelihoods) > 1 and all(isinstance(r, (tuple, list)) and len(r) == 2 for r in likelihoods)
    if choices and isinstance(target, int) and 0 <= target < len(likelihoods):
        lls = [float(r[0]) for r in likelihoods]
        numbers["margin"] = lls[target] - max(x for i, x in enumerate(lls) if i != target)
    return numbers


def _wanted(sample: Json) -> str:
    """The right choice in words, or the right answer."""
    target, arguments = sample["target"], sample["arguments"]
    if isinstance(target, int) and 0 <= target < len(arguments) > 1:
        return str(arguments[target][1]).strip()
    return str(target)[:TEXT]


def _answer(sample: Json) -> str:
    """What the model wrote, where the task lets it write."""
    first = sample["filtered_resps"][0] if sample["filtered_resps"] else ""
    return first[:TEXT] if isinstance(first, str) else ""


def _installed() -> Any:
    try:
        import lm_eval
    except ImportError:
        raise Unsupported(f"lm-evaluation-harness is not installed: {how_to_add('lmeval')}") from None
    return lm_eval


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def _quiet():
    """Its advice is about its own command line."""
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


if __name__ == "__main__":  # `python -m ws.eval.lm_eval ...` is `ws eval lm-eval ...`
    import sys

    from ws.cli import main

    sys.exit(main(["eval", NAME, *sys.argv[1:]]))
