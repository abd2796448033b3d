"""A judgement as a log of inspect (`.eval`): every case a sample, its verdict a score, so that its viewer shows them.

The format is a zip of JSON files: `header.json`, `samples/ID_epoch_1.json`, `summaries.json` and `_journal/`. It is read by
inspect's own loader in `tests/judge/test_inspect_log.py` (`just peers`). An abstention is a score without a value (NaN),
which inspect leaves out of its metrics too.
"""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from ws.answer_store import sha_of
from ws.judge.case import Verdict
from ws.judge.file import Row
from ws.judge.judgement import Judgement
from ws.records import slug
from ws.types import Json
from ws.version import __version__


def write_inspect_log(judgement: Judgement, file: Path, *, model: str = "unknown") -> Path:
    """Write the log; it holds the questions and the answers. `model` is who gave the answers."""
    samples = [_sample(r, v, judgement, model) for r, v in zip(judgement.rows, judgement.verdicts, strict=True)]
    header = _header(judgement, model)
    content = {
        "_journal/start.json": {"version": header["version"], "eval": header["eval"], "plan": header["plan"]},
        **{f"samples/{s['id']}_epoch_1.json": s for s in samples},
        "summaries.json": [_summary(s) for s in samples],
        "header.json": header,
    }
    part = file.with_name(f".{file.name}.part")
    with ZipFile(part, "w", ZIP_DEFLATED) as z:
        for name, value in content.items():
            z.writestr(name, json.dumps(value))
    part.replace(file)
    return file


def _header(judgement: Judgement, model: str) -> Json:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    name = judgement.rubric.name
    own = sha_of([now, judgement.by, [(r.case.id, r.case.key) for r in judgement.rows]])[:22]
    task = {
        "eval_id": own,
        "run_id": own,
        "created": now,
        "task": f"ws/{name}",
        "task_id": slug(judgement.rubric.id),
        "task_version": judgement.rubric.version,
        "dataset": {"samples": len(judgement.rows), "sample_ids": [r.case.id for r in judgement.rows]},
        "model": model,
        "config": {"epochs": 1},
        "packages": {"weight-steering": __version__},
        "metadata": {"judge": judgement.by},
    }
    metrics = {"abstained": float(judgement.abstained)}
    metrics |= {s.name: s.raw.mean for s in judgement.shares if math.isfinite(s.raw.mean)}
    scored = {
        "name": name,
        "scorer": judgement.by,
        "scored_samples": len(judgement.rows) - judgement.abstained,
        "unscored_samples": judgement.abstained,
        "metrics": {key: {"name": key, "value": value} for key, value in metrics.items()},
    }
    return {
        "version": 2,
        "status": "success",
        "eval": task,
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": len(judgement.rows),
            "completed_samples": len(judgement.rows),
            "scores": [scored],
        },
        "stats": {"started_at": now, "completed_at": now},
    }


def _sample(row: Row, verdict: Verdict, judgement: Judgement, model: str) -> Json:
    message = {"role": "assistant", "content": row.case.answer}
    score = {
        "value": verdict.number,  # JSON has no NaN, and inspect's reader takes it
        "answer": verdict.label,
        "explanation": verdict.reply or None,
        "metadata": {"by": verdict.by, "tokens_in": verdict.tokens_in, "tokens_out": verdict.tokens_out},
    }
    return {
        "id": row.case.id,
        "epoch": 1,
        "input": row.case.question,
        "target": list(row.case.gold),
        "messages": [{"role": "user", "content": row.case.question}, message],
        "output": {"model": model, "choices": [{"message": message, "stop_reason": "stop"}]},
        "scores": {judgement.rubric.name: score},
        "metadata": {"unit": row.unit},
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }


def _summary(sample: Json) -> Json:
    return {
        "id": sample["id"],
        "epoch": 1,
        "input": sample["input"],
        "target": sample["target"],
        "metadata": sample["metadata"],
        "scores": sample["scores"],
        "completed": True,
    }
