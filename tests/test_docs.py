"""What the documents show is what the software does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_help_in_the_docs_is_current():
    done = subprocess.run([sys.executable, ROOT / "docs" / "make_cli.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_story_of_the_readme_runs_and_steers(capsys):
    space: dict = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S):
        exec(code, space)
    ws, base, direction = space["ws"], space["base"], space["direction"]
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


def test_every_relative_link_of_the_documents_leads_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_runs_the_tests_that_ci_runs():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "<!-- command: tests -->" in readme
    assert "<!-- command: tests -->" in ci
    assert "pytest" not in re.sub(r"#.*", "", ci)
