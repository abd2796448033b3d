"""`ws chat`: each answer is the steered model's own, at the strengths of that moment; a mistake or Ctrl-C ends no chat."""

import json
import os
import pty
import re
import select
import shutil
import signal
import sys
import time

import pytest
import small
import torch
from rich.console import Console
from test_steer import lowrank

from ws.cli import main
from ws.direction import Direction, load, save
from ws.direction.card import beyond
from ws.generate import generate
from ws.models.chat import Chat, encode, render
from ws.steer import steer
from ws.streaming import stream

KENYA, SNOW = "What is the capital of Kenya?", "What color is snow?"


@pytest.fixture(scope="module")
def files(tiny, tmp_path_factory):
    """Two directions that change what is answered, by the names of their behaviors."""
    folder = tmp_path_factory.mktemp("directions")
    for seed, name in enumerate(("honesty", "authority")):
        plain = lowrank(tiny, seed=seed, size=1.0)
        direction = Direction(plain.forms, {**plain.provenance, "training": {"behavior": name}})
        save(direction, folder / f"{name}.safetensors")
    return [str(folder / f"{name}.safetensors") for name in ("honesty", "authority")]


@pytest.fixture
def piped(capsys, monkeypatch, tmp_path):
    """Run `ws chat` on lines of a pipe; its exit code, stdout and stderr."""

    def call(lines, *arguments):
        read, write = os.pipe()
        os.write(write, "".join(f"{line}\n" for line in lines).encode())
        os.close(write)
        with os.fdopen(read) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            code = main(["chat", *map(str, arguments), "--out", str(tmp_path / "out")])
        return code, *capsys.readouterr()

    return call


def answer(tiny, files, message, *alphas, **options):
    """The same answer by the Python verbs."""
    first, second = (load(file) for file in files)
    with steer(tiny, first, alphas[0]), steer(tiny, second, alphas[1]):
        return generate(tiny, message, max_new_tokens=12, **options)


def test_each_answer_is_that_of_its_strengths(tiny, files, piped):
    lines = [KENYA, "/reset", "/honesty 1.2 /authority -0.5", KENYA, "/reset", "/alpha 0", KENYA]
    code, out, _ = piped(lines, *files, "--alpha=0.5,-4", "--max-new-tokens", 12)
    strengths = [(0.5, -4), (1.2, -0.5), (0, 0)]
    wanted = [answer(tiny, files, KENYA, *alphas) for alphas in strengths]
    assert len(set(wanted)) == 3
    assert (code, out) == (0, "".join(f"{text}\n" for text in wanted))


def test_what_was_said_is_read_again_and_forgotten_by_reset(tiny, piped):
    code, out, _ = piped([KENYA, SNOW, "/system Pretend you're a dishonest person.", KENYA], "--json")
    exchanges = json.loads(out)["exchanges"]
    assert code == 0
    messages: list[dict[str, str]] = []
    for exchange in exchanges:
        messages.append({"role": "user", "content": exchange["message"]})
        system = [{"role": "system", "content": exchange["system"]}] if exchange["system"] else []
        text = tiny.tokenizer.apply_chat_template(
            system + messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        ids = torch.tensor([encode(tiny.tokenizer, text)])
        tokens = tiny.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=256, do_sample=False)
        assert exchange["answers"][0]["text"] == tiny.tokenizer.decode(tokens[0, ids.shape[1] :], True).strip()
        messages.append({"role": "assistant", "content": exchange["answers"][0]["text"]})
    assert exchanges[0]["answers"] != exchanges[2]["answers"]


def test_a_comparison_answers_the_last_message_at_each_strength_and_is_not_remembered(tiny, files, piped):
    lines = [KENYA, "/compare -4,0,4", "/compare authority 0,1.2", SNOW]
    short = ["--max-new-tokens", 12, "--alpha=1,0.5", "--json"]
    exchanges = json.loads(piped(lines, *files, *short)[1])["exchanges"]
    both = [answer(tiny, files, KENYA, alpha, alpha) for alpha in (-4, 0, 4)]
    one = [answer(tiny, files, KENYA, 1, alpha) for alpha in (0, 1.2)]
    assert [a["text"] for a in exchanges[1]["answers"]] == both
    assert [a["text"] for a in exchanges[2]["answers"]] == one
    assert len(set(both)) == 3
    assert exchanges[3]["answers"] == json.loads(piped([KENYA, SNOW], *files, *short)[1])["exchanges"][1]["answers"]


def test_a_seed_draws_the_same_chat_again_and_that_of_the_verb(tiny, files, piped):
    drawn = ["--max-new-tokens", 12, "--temperature", 2]
    texts = {seed: piped([KENYA], *files, *drawn, "--seed", seed, "--alpha", 0)[1].strip() for seed in (3, 4)}
    assert texts == {s: answer(tiny, files, KENYA, 0, 0, temperature=2.0, seed=s) for s in (3, 4)}
    assert texts[3] != texts[4]


def test_a_mistake_is_one_sentence_and_the_chat_goes_on(files, piped, tmp_path):
    (tmp_path / "there.md").write_text("mine")
    mistakes = {
        "/honsty 1": "there is no /honsty; did you mean /honesty?",
        "/honesty much": "the strength of honesty must be a number, got 'much'",
        "/honesty 1 /authority": "a dial is turned by its name and a number: /honesty -0.8 /authority 1.2",
        "/honesty nan": "finite number",
        "/compare -1,0": "say something first",
        "/save": "/save needs a file",
        f"/save {tmp_path / 'there.md'}": "is there already, and nothing was written",
        f"/save {tmp_path / 'nowhere' / 'x.md'}": "cannot be written: No such file",
        f"{KENYA} " * 200: "and tiny can hold 1024: no answer fits",
    }
    code, out, err = piped([*mistakes, KENYA], *files, "--alpha", 0)
    said = err.splitlines()
    assert [words for words, line in zip(mistakes.values(), said) if words not in line] == []
    assert said[len(mistakes) :] == [f"error: {len(mistakes)} lines could not be done; see above"]
    assert (code, out) == (1, "The capital of Kenya is Nairobi.\n")
    assert (tmp_path / "there.md").read_text() == "mine"


def test_a_comparison_that_cannot_be_read_is_shown_how_to_type_it(files, piped):
    for typed in ("/compare -1 0 1", "/compare kindness 1"):
        _, _, err = piped([KENYA, typed], *files, "--alpha", 0)
        assert err.startswith("/compare takes a list of strengths, and a name before it: /compare honesty -1,0,1\n")
    code, out, err = piped([KENYA, "/compare 1,0,1"], *files, "--alpha", 0)
    assert (code, out.count("\n")) == (1, 1)
    assert err.startswith("alphas holds 1 more than once; name every strength once\n")


def test_settings_that_cannot_be_are_refused_before_anything_is_said(files, piped):
    for flags, words in {
        ("--alpha", "1"): "--alpha needs something to steer by",
        (*files, "--alpha", "1,2,3"): "--alpha holds 3 strengths for 2 directions",
        ("--temperature", "-1"): "temperature must lie between 0 and 100",
        ("--max-new-tokens", "0"): "--max-new-tokens must be at least 1",
        ("--thinking", "maybe"): "--thinking is one of off, on, forced",
        ("nowhere",): "'nowhere' is no direction file",
    }.items():
        code, out, err = piped([KENYA], *flags)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert words in err


def test_two_directions_of_one_behavior_have_two_names(files, piped, tmp_path):
    code, _, err = piped(["/help"], files[0], shutil.copy(files[0], tmp_path), "--alpha", 0)
    assert code == 0
    assert re.search(r"/honesty +NUMBER.*\n/honesty2 +NUMBER", err)


def test_a_strength_outside_all_that_is_known_of_a_direction_is_said(tiny, piped, tmp_path):
    card = {
        "effects": [{"eval": "dilemmas", "protocol": "p", "metric": "m", "from": -1, "to": 1, "change": 2, "units": 3}],
        "strengths": [{"budget": 1, "neg": -1.5, "pos": 0.5, "matched": True}],
    }
    plain = lowrank(tiny, size=0.01)
    known = Direction(plain.forms, {**plain.provenance, "training": {"behavior": "honesty"}}, card)
    file = save(known, tmp_path / "known.safetensors")
    warning = "lies outside -1.5 to +1, where it was measured or calibrated; answers may fall apart"
    _, _, err = piped(["/alpha 1", "/honesty -1.5", KENYA, "/compare -1,0,1"], file)
    assert err == ""
    _, _, err = piped(["/alpha 3", KENYA, "/compare 0,-2"], file, "--alpha", 1.2)
    assert err.splitlines() == [f"(honesty: {alpha} {warning})" for alpha in ("+1.2", "+3", "-2")]
    assert beyond(plain, 50.0) == ""  # of a direction of which nothing is known, nobody knows where it ends


def test_generate_says_so_too(tiny, told, tmp_path):
    effect = {"eval": "e", "protocol": "p", "metric": "m", "from": -1, "to": 1, "change": 2, "units": 3}
    plain = lowrank(tiny, size=0.01)
    file = save(Direction(plain.forms, plain.provenance, {"effects": [effect]}), tmp_path / "known.safetensors")
    for alphas, lines in (("--alphas=-1,1", 0), ("--alphas=-1,4", 1)):
        code, _, err = told("generate", file, KENYA, alphas, "--max-new-tokens", 2)
        assert (code, err.count("+4 lies outside -1 to +1")) == (0, lines), err


def test_text_that_a_terminal_would_obey_is_not_printed(capsys):
    from ws.cli.chat import Printer

    printer = Printer(Console())
    for text in ("a", "a\x1b[2J", "a\x1b[2Jb\N{REPLACEMENT CHARACTER}", "a\x1b[2Jbé"):
        printer.grow(text)
    printer.end("a\x1b[2Jbé.")
    assert capsys.readouterr().out == "a\N{REPLACEMENT CHARACTER}[2Jbé.\n"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_stream_ends_where_the_plain_loop_ends(kind, tiny):
    base = small.base(kind, tokenizer=tiny.tokenizer, vocabulary=len(tiny.tokenizer))
    chats = [Chat("Why?"), Chat(KENYA)]
    *_, last = stream(base, chats, max_new_tokens=6)
    ids = [torch.tensor([encode(tiny.tokenizer, render(tiny.tokenizer, chat))]) for chat in chats]
    alone = [base.model.generate(x, max_new_tokens=6, do_sample=False, eos_token_id=2, pad_token_id=0) for x in ids]
    assert [a.n_tokens for a in last] == [len(tokens[0]) - x.shape[1] for x, tokens in zip(ids, alone)]
    texts = [tiny.tokenizer.decode(tokens[0, x.shape[1] :]).rstrip() for x, tokens in zip(ids, alone)]
    assert [a.text for a in last] == texts


# ---------------------------------------------------------------- at a terminal


class Terminal:
    """A pseudo-terminal of 80 columns with a command in it."""

    def __init__(self, *arguments):
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell that runs tests beside itself ignores it
            os.execve(sys.executable, [sys.executable, "-m", "ws", *arguments], {**os.environ, "COLUMNS": "80"})
        self.text = ""

    def until(self, words, seconds=120.0):
        """All that was printed up to these words, and since the last ones."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, f"{words!r} never came: {self.text!r}"
            if select.select([self.end], [], [], 0.1)[0]:
                self.text += os.read(self.end, 65536).decode(errors="replace").replace("\r\n", "\n")
        before, _, self.text = self.text.partition(words)
        return before

    def type(self, text):
        os.write(self.end, text.encode())

    def insist(self, text, words):
        """Type until it is answered: a signal between the prompt and readline's wait is seen at the next key only."""
        for _ in range(60):
            self.type(text)
            try:
                return self.until(words, seconds=2.0)
            except AssertionError:
                continue
        raise AssertionError(f"{words!r} never came")

    def exit_code(self, seconds=60.0):
        """How the command ended, by itself and soon."""
        deadline = time.monotonic() + seconds
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.05)
        return os.waitstatus_to_exitcode(ended[1])


def test_a_chat_at_a_terminal(tiny, files, tmp_path):
    """Two directions, a change of strength, an answer that Ctrl-C stops, a line of the history, and a file."""
    saved, up, ctrl_c, ctrl_d = tmp_path / "chat.md", "\x1b[A", "\x03", "\x04"
    t = Terminal("chat", *files, "--alpha=0.5,-0.5", "--max-new-tokens", "600")
    assert "tiny with honesty +0.5, authority -0.5." in t.until("honesty +0.5, authority -0.5 > ")
    t.type(f"{KENYA}\n")
    assert t.until("\nhonesty +0.5, authority -0.5 > ").endswith(answer(tiny, files, KENYA, 0.5, -0.5))
    t.type("/reset\n/honesty 9 /authority 0\n")
    t.until("honesty +9, authority 0 > ")
    t.type(f"{SNOW}\n")
    beginning = answer(tiny, files, SNOW, 9, 0)[:20]
    t.until(beginning)
    t.type(ctrl_c)
    assert len(t.until("(stopped)\nhonesty +9, authority 0 > ")) < 20_000
    t.insist(ctrl_c, "(/quit or Ctrl-D ends)")
    t.type(f"/reset\n/alpha 0\n{up}{up}{up}\n")  # the message before both commands
    assert t.until("Snow is white.\nhonesty 0, authority 0 > ")
    t.type(f"/compare honesty 0,1.2\n/save {saved}\n")
    t.until(f"saved 4 answers to {saved}\nhonesty 0, authority 0 > ")
    t.type(ctrl_d)
    assert t.exit_code() == 0
    text = saved.read_text()
    assert f"> {KENYA}\n\n**tiny, honesty +0.5, authority -0.5**\n\n> {answer(tiny, files, KENYA, 0.5, -0.5)}\n" in text
    assert "**tiny, honesty +9, authority 0 (stopped)**" in text
    for alphas in ((0, 0), (1.2, 0)):
        spoken = f"**tiny, honesty {alphas[0]:+g}, authority 0**".replace("+0", "0")
        assert f"{spoken}\n\n> {answer(tiny, files, SNOW, *alphas)}\n" in text
