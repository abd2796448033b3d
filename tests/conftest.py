"""All tests run offline, on the CPU and on one thread."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("COLUMNS", None)  # the line editor of the process that started this one leaves its 80 there

from pathlib import Path

import forks
import pytest
import torch
from jaxtyping import install_import_hook

SOURCE = Path(__file__).parents[1] / "src"
SHAPED = [
    ".".join(p.relative_to(SOURCE).with_suffix("").parts)
    for p in SOURCE.rglob("*.py")
    if "from jaxtyping" in p.read_text(encoding="utf-8")
]
"""Modules that state shapes. They alone are checked call by call: of the rest mypy knows the types, and to check them again doubles the time."""
install_import_hook(SHAPED, "typecheck.checked")

REAL_DATA = Path(os.environ.get("WS_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
LONG = "WS_LONG_TESTS" in os.environ
"""Whether simulations and fuzzing run at their full size: `just long`."""


LONGEST = ("test_sweep", "test_compare", "test_cli", "test_docs", "test_processes", "test_train")
"""Files that come first, so that no worker is alone with one at the end."""


def pytest_configure(config):
    """Workers keep the order below; by itself xdist begins with the files of most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """The longest files first, the others as they were."""
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """What ws remembers of files goes to a folder of the tests."""
    os.environ["WS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def _quick_workers():
    """Workers that have imported everything; those of users, which have not, are what `tests/engine` is about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ws.engine.local.subprocess", forks.SUBPROCESS)
        yield


@pytest.fixture(scope="module")
def few_neutral_questions():
    """What steering costs is measured on a few of them, for tests to which their number is nothing."""
    from ws.eval import perplexity

    every, n_free = perplexity.neutral_questions, perplexity.N_FREE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perplexity, "neutral_questions", lambda base, data: every(base, data)[:12])
        patch.setattr(perplexity, "N_FREE", 4)
        yield {"neutral_questions": every, "N_FREE": n_free}


@pytest.fixture(scope="session")
def tiny():
    """The embedded model."""
    from ws.models.load import load

    return load("tiny")


@pytest.fixture(scope="session")
def real_data():
    """Real tokenizers and models, where this checkout has them beside it."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def told(capsys):
    """Run a command; its exit code, stdout and stderr."""

    from ws.cli import main

    def call(*arguments):
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return code, out, err

    return call
