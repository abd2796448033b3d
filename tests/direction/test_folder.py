"""A direction as a folder for the hub: it comes back whole, from a path or from the hub's cache, or not at all."""

import os
import shutil
import subprocess
import sys

import pytest
from direction.test_file import a_direction

from ws.direction import from_pretrained, save, save_pretrained
from ws.errors import BadFile


def test_a_folder_comes_back_whole_and_says_what_it_is(tmp_path):
    folder = save_pretrained(a_direction(), tmp_path / "d")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "direction.safetensors", "ws.json"]
    assert from_pretrained(folder).content_hash == a_direction().content_hash
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "toy"
    assert "weight-steering" in card.data.tags


def test_a_file_that_is_not_what_the_folder_says_is_refused(tmp_path):
    folder = save_pretrained(a_direction(), tmp_path / "d")
    save(a_direction() * 2.0, folder / "direction.safetensors")
    with pytest.raises(BadFile, match="is not the direction"):
        from_pretrained(folder)
    with pytest.raises(BadFile, match="no direction of that id"):
        from_pretrained("someone/no-such-direction")


def test_a_direction_in_the_hub_cache_loads_by_id_and_revision(tmp_path):
    folder = save_pretrained(a_direction(), tmp_path / "d")
    root = tmp_path / "home" / "hub" / "models--someone--direction"
    shutil.copytree(folder, root / "snapshots" / ("b" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "v1").write_text("b" * 40)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    code = "import ws; print(ws.from_pretrained('someone/direction', revision='v1').content_hash)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == a_direction().content_hash, done.stderr
