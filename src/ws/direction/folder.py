"""Directions on the hub: a folder with `direction.safetensors`, `ws.json` and a card.

    save_pretrained(direction, "my-direction")
    direction = from_pretrained("someone/honesty-qwen3", revision="main")

Nothing but safetensors and JSON is read, and only the files named here are fetched.
"""

import json
from pathlib import Path

from ws.direction.card import markdown
from ws.direction.direction import Direction
from ws.direction.file import load_direction, save_direction
from ws.errors import BadFile
from ws.types import Json

FILE, OURS, CARD = "direction.safetensors", "ws.json", "README.md"


def save_pretrained(direction: Direction, folder: Path | str) -> Path:
    """Write the folder; returns it."""
    folder = Path(folder).expanduser()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FILE).is_file())):
        raise BadFile(f"{folder} exists and holds something else than a direction; give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    save_direction(direction, folder / FILE)
    record = {"format": "ws-direction/1", "content": direction.content_hash, "provenance": dict(direction.provenance)}
    (folder / OURS).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    (folder / CARD).write_text(_card(direction))
    return folder


def from_pretrained(name: str | Path, *, revision: str | None = None) -> Direction:
    """A direction from a folder or a hub id."""
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(str(name), revision=revision, allow_patterns=[FILE, OURS]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as e:
            raise BadFile(
                f"there is no folder {name!s}, and no direction of that id can be fetched ({type(e).__name__})."
            ) from None
    direction = load_direction(folder / FILE)
    if (folder / OURS).is_file():
        try:
            content = json.loads((folder / OURS).read_text())["content"]
        except (ValueError, KeyError, TypeError):
            raise BadFile(f"{folder}/{OURS} is damaged: it is no JSON object with the hash of the direction.") from None
        if content not in direction.content_hashes:
            raise BadFile(f"{folder}: {FILE} is not the direction that {OURS} describes.")
    return direction


def push_to_hub(direction: Direction, name: str, *, private: bool = True) -> str:
    """Upload a direction as a model repository, private by default; returns its address."""
    import tempfile

    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(direction, folder)
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="A weight-steering direction"))


def _card(direction: Direction) -> str:
    from huggingface_hub import ModelCardData

    record: Json = dict(direction.provenance)
    base, training = record.get("base") or {}, record.get("training") or {}
    settings = training.get("settings") or {}
    front = ModelCardData(
        base_model=base.get("id"), library_name="ws", tags=["weight-steering"], base_model_relation="adapter"
    )
    kinds = sorted({f.kind for fs in direction.forms.values() for f in fs})
    lines = [
        f"---\n{front.to_yaml()}\n---",
        "# A direction in weight space",
        "",
        *markdown(direction),
        "`theta + alpha * direction` is the steered model. Load it with",
        "",
        "```python",
        "import ws",
        f'base = ws.load("{base.get("id")}")',
        'with ws.steer(base, "OWNER/NAME", alpha=-1.0):  # this repository, or its folder',
        '    print(ws.generate(base, "What is the capital of Kenya?"))',
        "```",
        "",
        "For transformers and peft, vLLM and llama.cpp: `ws export OWNER/NAME --to peft --out FOLDER`, or `--to merged`, `--to gguf-lora`.",
        "",
        f"- base: `{base.get('id')}`, revision `{base.get('revision')}`, fingerprint `{base.get('fingerprint')}`; no other base is accepted",
        f"- made by: {record.get('adapter') or record.get('made_by')}, {record.get('mode', 'combined')}; forms: {', '.join(kinds)}",
        f"- modules: {len(direction.forms)}; content `{direction.content_hash}`",
        f"- training: learning rate {training.get('lr')}, best step {training.get('step')}, seed {settings.get('seed')}, init {settings.get('init')}, pairs `{training.get('pairs')}`",
        "",
        "alpha = 1 is no common unit: measure the side effects before you compare.",
        "",
    ]
    return "\n".join(lines)
