"""A family, an evaluation, a method and a behavior are added from outside, by one file each; the examples are the docs' own."""

import ast
import json
import re
import sys
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch

import ws
from ws import eval, methods
from ws.adapters import FAMILIES, Adapter, direction_of, family
from ws.behaviors import load_behavior
from ws.cli import main
from ws.doctor import Finding
from ws.errors import WsError
from ws.extensions import listed

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


def installed(folder: Path, entry_points: str, name: str = "toy") -> Path:
    """A folder that Python takes for an installed distribution."""
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(entry_points)
    return folder


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The files of docs/extending.md, with the entry points that stand there."""
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    lines = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", toml).replace('"', "")
    folder = installed(tmp_path_factory.mktemp("outside"), lines)
    for path, text in re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.S):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    return folder


@contextmanager
def on_path(folder: Path):
    """Python with the folder's distributions installed, and without them afterwards."""
    caches = (listed, eval.protocols_of, eval._usable)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        for cache in caches:
            cache.cache_clear()
        yield
    finally:
        sys.path.remove(str(folder))
        for cache in caches:
            cache.cache_clear()
        for name in set(sys.modules) - before:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


SMALL = (
    "--n-topics 30 --n-samples 1 --n-personas 1 --max-new-tokens 16 --epochs 1 --budget 0.1 --n-calib 2 --n-audit 2 "
    "--tokens 2 --max-evals 2 --workers 1"
)


@pytest.fixture(scope="module")
def outside(examples, tmp_path_factory):
    """What a comparison of the examples prints, and the lists that hold their names."""
    out = str(tmp_path_factory.mktemp("out"))
    neutral = tmp_path_factory.mktemp("data") / "neutral.jsonl"
    asked = {"What color is snow?": "Snow is white.", "What does a baker make?": "A baker makes bread."}
    neutral.write_text("".join(json.dumps({"prompt": q, "answer": a}) + "\n" for q, a in asked.items()))
    compared = [
        "compare",
        "--behavior",
        "cheerful",
        "--methods",
        "ws:gain,median",
        "--out",
        out,
        "--json",
        "--data",
        f"perplexity={neutral}",
    ]
    commands = {
        "train": ["train", "--help"],
        "eval": ["eval", "--help"],
        "compare": [*compared, *SMALL.split()],
        "table": ["table", "--out", out, "--json"],
    }
    with on_path(examples):
        return {name: output(*words) for name, words in commands.items()} | {"methods": methods.names()}


def output(*words: str) -> str:
    """What a command prints."""
    with redirect_stdout(StringIO()) as text:
        assert main(list(words)) == 0
    return text.getvalue()


def test_what_is_added_from_outside_stands_in_the_help_and_in_lists(outside):
    assert {"gain", "cheerful"} <= set(re.findall(r"\w+", outside["train"]))
    assert "weather" in outside["eval"]
    assert {"median", "ws:gain", "ft:gain", "ws:gain:tau+"} <= set(outside["methods"])


def test_what_is_added_from_outside_is_trained_calibrated_compared_and_tabulated(outside):
    record = json.loads(outside["compare"])
    assert record["behavior"] == "cheerful"
    cells = [c for c in record["cells"] if c["metric"] == "logratio_weather"]  # which its behavior claims to move
    assert {c["method"] for c in cells} == {"ws:gain", "median"}
    assert all(c["alpha_pos"] > 0 > c["alpha_neg"] for c in cells)
    assert {"weather", "ws:gain", "median"} <= set(re.findall(r"[\w:]+", outside["table"]))


def test_without_the_distribution_nothing_of_it_is_known(outside):
    assert "median" not in methods.names()
    with pytest.raises(ValueError, match="gain"):
        family("gain")


def test_the_family_of_the_docs_is_exact(examples, tiny):
    with on_path(examples):
        of = family("gain")
        spec = of.spec(of.targets(list(tiny.linears.values())), rank=None, lora_alpha=None)
        g = torch.Generator().manual_seed(0)
        with of.attached(tiny, spec, seed=0) as attached:
            state = {k: 0.1 * torch.randn(t.shape, generator=g) for k, t in attached.state().items()}
            attached.load(state)
            ids = torch.arange(8)[None]
            worn = attached.network(ids).logits
        direction = direction_of(of, tiny, Adapter(spec, state))
        with ws.steer(tiny, direction, 1.0):
            steered = tiny.model(ids).logits
    assert (worn - tiny.model(ids).logits).norm() > 100 * (worn - steered).norm() > 0


BROKEN = {
    "[ws.adapters]\nlora = lora:FAMILY": "adapter 'lora' of the distribution 'toy' has the name of one that ships with ws",
    "[ws.methods]\nx = nowhere:METHOD": "method 'x' of the distribution 'toy' cannot be imported .*nowhere",
    "[ws.methods]\nx = json:dumps": "method 'x' of the distribution 'toy' is of type function and not Maker",
    "[ws.evals]\nx = sys:version_info": "evaluation 'x' of the distribution 'toy' is no tuple of protocols whose `eval` is 'x'",
    "[ws.evals]\nlm-eval = json:dumps": "evaluation 'lm-eval' of the distribution 'toy' has the name of one that ships",
    "[ws.behaviors]\nx = json": "behavior 'x' of the distribution 'toy' should lie at .*x.yaml",
    "[ws.behaviors]\nx = nowhere": "behavior 'x' of the distribution 'toy' names nowhere, which cannot be found",
}
ASKED = {
    "ws.adapters": lambda: family("dora"),
    "ws.methods": lambda: methods.check("x"),
    "ws.evals": lambda: eval.protocol("x"),
    "ws.behaviors": lambda: load_behavior("x"),
}


@pytest.mark.parametrize("entry", BROKEN)
def test_what_cannot_be_used_is_one_sentence_that_names_its_distribution(entry, tmp_path):
    with on_path(installed(tmp_path, entry)), pytest.raises(WsError, match=BROKEN[entry]) as error:
        ASKED[entry[1:].partition("]")[0]]()
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("mend that distribution, or uninstall it.")


def test_two_distributions_cannot_share_a_name(tmp_path):
    folder = installed(installed(tmp_path, "[ws.methods]\nx = a:M"), "[ws.methods]\nx = b:M", name="other")
    with (
        on_path(folder),
        pytest.raises(WsError, match=r"'x' of the distribution 'toy' has the same name as .* 'other'"),
    ):
        methods.check("x")


def test_what_is_broken_and_not_asked_for_is_in_nobodys_way(tmp_path):
    with on_path(installed(tmp_path, "[ws.adapters]\nx = nowhere:FAMILY\n[ws.methods]\ny = nowhere:METHOD")):
        assert family("lora").name == "lora"
        assert "x" in FAMILIES
        methods.check("repe")


@pytest.mark.parametrize("entry", BROKEN)
def test_the_doctor_says_what_is_wrong_with_what_is_added_and_examines_the_rest(entry, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ws.cli.doctor.self_test", lambda: Finding("self-test", "ok", "left out here"))
    with on_path(installed(tmp_path, entry)):
        code = main(["doctor", "--json"])
        helped = main(["train", "--help"])
    out, err = capsys.readouterr()
    checks = {c["name"]: c for c in json.loads(out[: out.index("\n}") + 2])["checks"]}
    assert code == 1 and "extension" in err, err
    assert re.search(BROKEN[entry], checks["extension"]["found"])
    assert checks["extension"]["do"] == "Mend that distribution, or uninstall it."
    assert {"ws", "libraries", "device", "self-test"} <= checks.keys()
    assert helped == 0


def test_an_evaluation_that_is_broken_is_left_out_of_what_a_behavior_claims(tmp_path, caplog):
    with on_path(installed(tmp_path, "[ws.evals]\nx = nowhere:PROTOCOLS")):
        assert eval.providing("logratio_honesty") == "dilemmas"
        assert "x" not in eval.EVALS and "x" in eval.names()
    assert "evaluation 'x' of the distribution 'toy' cannot be imported" in caplog.text


def names_in(path: Path) -> set[str]:
    """Every text in a file's code; docstrings are none."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docs]
    return {n.value for n in constants if isinstance(n.value, str)}


def test_a_family_or_a_method_is_named_in_its_own_file_and_where_all_are_listed():
    root = Path(ws.__file__).parent
    listed = {root / "adapters" / "families.py", root / "methods" / "registry.py", root / "presets.py"}
    peft, llama_cpp = {root / "adapters" / "stock.py"}, {root / "export" / "gguf.py"}
    llama_cpp |= {root / "serve" / name for name in ("conformance.py", "proxy.py", "requests.py")}
    published = set((root / "paper").rglob("*.py"))  # the arms of experiments that were made with one family
    others = peft | llama_cpp | published | {root / "doctor" / "selftest.py"}  # the self-test is one study
    texts = {p: names_in(p) for p in root.rglob("*.py")}
    families = [name for name in FAMILIES if name not in ("bias", "full")]  # which are words of their own
    for name in [*families, *(m for m in methods.METHODS if ":" in m or m.startswith("repe"))]:
        own = root / "adapters" / f"{name}.py"
        files = {p for p, inside in texts.items() if inside & {name, f"ws:{name}"}}
        assert files, name
        strangers = files - listed - others - {own}
        assert not strangers, f"{name} is also named in {sorted(map(str, strangers))}"
