"""Many studies and comparisons whose pairs a server writes: it is asked, its model is in the key, its place in no file."""

import json

import pytest
from test_endpoint import Server

from ws.cli import main
from ws.cli.words import command_without_address
from ws.grid.axes import grid_of
from ws.grid.tasks import tasks_of

FEW = ["--n-topics", "8", "--n-personas", "1", "--n-samples", "1", "--max-len", "96"]
SWEEP = ["sweep", "--adapter", "bias", "--evals", "pairs", "--epochs", "1", "--alphas=-1,1", "--workers", "1", *FEW]
COMPARE = ["compare", "--methods", "paper:single", "--evals", "sycophancy", "--alphas=-1,1", "--limit", "2", "--workers", "1", "--n-calib", "4", "--tokens", "4", *FEW]  # fmt: skip


@pytest.fixture
def server():
    return Server()


def written(out):
    """Everything below an output folder, as text."""
    return "".join(p.read_text(errors="replace") for p in out.rglob("*") if p.is_file())


def test_the_pairs_of_a_sweep_are_the_servers_and_its_address_is_in_no_file(server, tmp_path, capsys):
    with server.running() as endpoint:
        served = ["--out", str(tmp_path), "--generate-with", endpoint.url]
        assert main([*SWEEP, *served]) == 0, capsys.readouterr().err
        asked = len(server.requests)
        assert asked == 8 * 2
        (manifest,) = tmp_path.glob("data/*/*/[!.]*/manifest.json")
        assert json.loads(manifest.read_text())["inputs"]["endpoint"]["model"] == "org/served-model"
        (told,) = tmp_path.glob("sweep/*/sweep.json")
        assert "--generate-with URL" in json.loads(told.read_text())["command"]
        capsys.readouterr()
        assert main([*SWEEP, *served, "--check", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["stages"]["data"] == {"all": 1, "done": 1}
        assert main(["data", *served, *FEW]) == 0
        assert "reused" in capsys.readouterr().err
        assert len(server.requests) == asked
    assert main([*SWEEP, "--out", str(tmp_path), "--check", "--json"]) == 0  # the model's own answers are others
    assert json.loads(capsys.readouterr().out)["stages"]["data"] == {"all": 1, "done": 0}
    gone = [*SWEEP, *served, "--generate-model", "org/served-model"]
    assert main([*gone, "--seed", "1"]) == 1
    assert "there is no server at http://***:" in capsys.readouterr().out
    assert main(gone) == 0  # what is done needs no server
    assert "127.0.0.1" not in written(tmp_path)


def test_the_pairs_of_a_comparison_are_the_servers_and_its_address_is_in_no_file(server, tmp_path, capsys):
    own = tmp_path / "own"
    assert main([*COMPARE, "--out", str(own), "--check", "--json"]) == 0
    with server.running() as endpoint:
        served = ["--out", str(tmp_path), "--generate-with", endpoint.url]
        assert main([*COMPARE, *served]) == 0, capsys.readouterr().err
        assert len(server.requests) == 8 * 2
        capsys.readouterr()
        assert main([*COMPARE, *served, "--check", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["cells"] == [{"cell": "paper:single s0", "done": True}]
    assert main([*COMPARE, "--out", str(tmp_path), "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == [{"cell": "paper:single s0", "done": False}]
    gone = [*COMPARE, *served, "--generate-model", "another"]
    assert main(gone) == 2
    assert "127.0.0.1" not in written(tmp_path)


def test_an_address_that_cannot_be_right_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="WS_GENERATE_KEY"):
        grid_of({"generate_with": "http://me:pw@far.example/v1", "generate_model": "m"}, threads=1)
    with pytest.raises(ValueError, match="leave out `generate_with`"):
        grid_of({"generate_with": "http://localhost/v1", "generate_model": "m", "pairs": "x.jsonl"}, threads=1)


def test_every_cell_is_told_of_the_server_and_the_name_of_the_sweep_holds_its_model():
    def grid(model, where="http://localhost/v1"):
        return grid_of({"generate_with": where, "generate_model": model, "seeds": "0,1"}, threads=1)

    one = grid("m")
    assert {t.given["cell"]["options"]["generate_with"] for t in tasks_of(one.cells) if "cell" in t.given} == {
        "http://localhost/v1"
    }
    assert "localhost" not in json.dumps(one.described)
    assert one.name == grid("m", "http://127.0.0.1/v1").name
    assert len({one.name, grid("n").name, grid_of({"seeds": "0,1"}, threads=1).name}) == 3


@pytest.mark.parametrize("words", [["--generate-with", "http://here/v1"], ["--generate-with=http://here/v1"]])
def test_a_command_that_is_written_down_leaves_the_address_to_the_person(words):
    written = command_without_address(["sweep", *words, "--seeds", "0,1"])
    assert written == f"ws sweep {' '.join(words).replace('http://here/v1', 'URL')} --seeds 0,1"
