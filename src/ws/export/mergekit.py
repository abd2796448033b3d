"""A mergekit recipe that is equivalent to a merged export: the base plus `alpha` times the direction, as an adapter.

`task_arithmetic` with `normalize: false`; its default would divide by the sum of the weights. Paths are absolute,
because mergekit looks up relative ones on the hub. The arithmetic is float32 and the result is stored like the base.
"""

import json
from pathlib import Path

import yaml

from ws.direction import Direction
from ws.direction.file import write_tensors
from ws.errors import ExportRefused
from ws.export.peft import WEIGHTS, config_on, refuse_moved, tensors_of
from ws.export.target import card, describe, factors, of_one_rank
from ws.models.base import Base
from ws.models.locate import locate
from ws.types import Json

RECIPE, ADAPTER = "mergekit.yml", "adapter"


def to_mergekit(direction: Direction, base: Base, work: Path, *, final: Path, alpha: float, share: float = 1.0) -> Json:
    """Fill the folder with the recipe and the adapter it merges; `final` is where the folder will lie."""
    low_ranks = factors(direction, "mergekit")
    refuse_moved(list(low_ranks), base)
    r, low_ranks = of_one_rank(low_ranks)
    record = {"to": "mergekit", "alphas": [alpha], "rank": r, "kept_energy": share}
    (work / ADAPTER).mkdir()
    write_tensors(tensors_of(low_ranks), work / ADAPTER / WEIGHTS, {"format": "pt"})
    adapter_config = config_on(base, low_ranks, r, r)
    (work / ADAPTER / "adapter_config.json").write_text(json.dumps(adapter_config, indent=1, sort_keys=True) + "\n")
    (work / RECIPE).write_text(yaml.safe_dump(recipe(base, final.resolve() / ADAPTER, alpha), sort_keys=False))
    body = f"""The base plus {alpha:g} times a direction, as a recipe for mergekit:

```
mergekit-yaml {RECIPE} MERGED --lora-merge-cache NEW_FOLDER
```

The recipe names `{ADAPTER}` by its absolute path: after moving this folder, write it again or edit the path.
Use a new folder for the cache: mergekit takes what lies in an old one for finished."""
    if share < 1 - 1e-9:
        body += f"\n\nCut to rank {r}: it keeps {100 * share:.1f} % of the direction's energy."
    (work / "README.md").write_text(
        card("Weight-steering recipe", direction, base, body, library="mergekit", relation="merge")
    )
    describe(work, direction, base, **record)
    return record


def recipe(base: Base, adapter: Path, alpha: float) -> Json:
    """The content of the recipe, as mergekit reads it."""
    source, _, revision = locate(base.source or base.id)
    local = Path(source).is_dir()
    name = str(Path(source).resolve()) if local else f"{source}@{base.revision or revision or 'main'}"
    if (local and set(name) & set("+@")) or set(str(adapter)) & set("+@"):
        raise ExportRefused(f"mergekit reads + and @ in a path as its own marks; rename {name} or {adapter}.")
    return {
        "merge_method": "task_arithmetic",
        "base_model": name,
        "models": [{"model": f"{name}+{adapter}", "parameters": {"weight": alpha}}],
        "parameters": {"normalize": False, "lambda": 1.0},
        "dtype": "float32",
        "out_dtype": str(base.model.config.dtype or base.dtype).removeprefix("torch."),
    }
