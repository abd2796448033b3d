"""The playground, driven in a real browser against a server that says what a test wants."""

import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from test_steer import lowrank

import ws
from tools.browser import Browser, executable

PAGE = Path(ws.__file__).parent / "serve" / "page"
EVIL = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script> & 'quoted' \\ ${pwned}"
DIALS = [
    {
        "id": "honesty",
        "kind": "direction",
        "adapter": "lora",
        "alpha": {"min": -3.0, "max": 3.0},
        "poles": {"pos": EVIL, "neg": "it lies"},
        "calibrated": [{"budget": 1.0, "neg": -1.6964045379130763, "pos": 1.874245248533418, "matched": True}],
        "questions": [EVIL, "Where does a crab live?"],
    },
    {
        "id": "authority",
        "kind": "direction",
        "adapter": None,
        "alpha": {"min": -2.0, "max": 2.0},
        "poles": {"pos": None, "neg": None},
        "calibrated": [],
        "questions": [],
    },
]
BASE = {"id": "base", "kind": "base", "root": "tiny", "limits": {"rows": 16, "max_new_tokens": 1024}}


class StandIn(ThreadingHTTPServer):
    """The page's files and the two addresses that it asks, in the shapes of `ws serve`."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.known = threading.Event()  # whether it tells what it can do, or keeps the page waiting
        self.known.set()
        self.begin()

    def begin(self):
        """As it is when nobody has asked yet."""
        self.bodies, self.key, self.answer, self.pause, self.left = [], None, EVIL, 0.0, 0
        self.refuse = lambda body: None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path.strip("/") or "index.html"
        if name == "v1/models":
            self.server.known.wait(60)
            return self._key_is_right() and self._send(json.dumps({"data": [BASE, *DIALS]}))
        kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
        self._send((PAGE / name).read_text(), kind=kinds[Path(name).suffix])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if not self._key_is_right():
            return
        if why := self.server.refuse(body):
            return self._send(json.dumps({"error": {"message": why}}), status=400)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for n, part in enumerate(re.findall(r"\S+\s*", self.server.answer)):
                top = [{"token": part, "logprob": -0.1}, {"token": " " + EVIL, "logprob": -3.0}]
                entry = {
                    "token": part,
                    "logprob": -0.1,
                    "top_logprobs": top,
                    **({"kl": 0.25 * n} if body.get("kl") else {}),
                }
                choice = {"index": 0, "delta": {"content": part}, "logprobs": {"content": [entry]}}
                self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
                self.wfile.flush()
                time.sleep(self.server.pause)
            if self.server.answer.endswith("BROKEN"):
                self.wfile.write(f"data: {json.dumps({'error': {'message': 'the numbers overflow'}})}\n\n".encode())
            else:
                self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.left += 1

    def _key_is_right(self):
        if self.server.key in (None, self.headers.get("Authorization", "").removeprefix("Bearer ")):
            return True
        self._send(json.dumps({"error": {"message": "this server needs its key"}}), status=401)
        return False

    def _send(self, text, *, status=200, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture(scope="module")
def browser():
    """One for all tests of this file."""
    if executable() is None:
        pytest.skip("there is no Chromium on the path")
    with Browser.found() as browser:
        yield browser


@pytest.fixture(scope="module")
def stand_in():
    server = StandIn()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def server(stand_in):
    """The stand-in, as it is when nobody has asked yet."""
    stand_in.begin()
    return stand_in


@pytest.fixture
def page(browser, server):
    page = browser.open(server.address)
    page.wait("document.querySelectorAll('.column').length == 3")
    yield page
    assert not page.complaints()
    assert not page.value("window.pwned")
    assert all(address.startswith((server.address, "blob:", "data:")) for address in page.asked())
    page.call("Page.close")


STATUS = "document.getElementById('status').textContent"
ANSWERS = "[...document.querySelectorAll('.answer')].map(a => a.textContent)"
NUMBERS = "[...document.querySelectorAll('.column')].map(c => [...c.querySelectorAll('input[type=number]')].map(i => i.value))"


def ask(page, ended="written."):
    page.value("document.getElementById('go').click()")
    page.wait(f"/{ended}$/.test({STATUS}) && !{STATUS}.includes('being')")


def focus(page, element):
    page.value(f"document.querySelector({json.dumps(element)}).focus()")


# ---------------------------------------------------------------- the files


def test_the_page_is_small_and_asks_nobody_but_its_server():
    files = sorted(PAGE.iterdir())
    assert [f.name for f in files] == ["index.html", "page.css", "page.js"]
    assert sum(f.stat().st_size for f in files) <= 60_000
    for text in (f.read_text() for f in files):
        assert not re.search(r"https?://|//[a-z]+\.", text)
        assert not re.search(r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert "default-src 'none'; script-src 'self'" in (PAGE / "index.html").read_text()


# ---------------------------------------------------------------- asking


def test_every_column_streams_the_same_question_at_its_own_strength(page, server):
    ask(page)
    assert [b.get("steer") for b in sorted(server.bodies, key=lambda b: b.get("steer", {}).get("honesty", 0))] == [
        {"honesty": -1.6964045379130763},
        None,
        {"honesty": 1.874245248533418},
    ]
    assert len({json.dumps(b["messages"]) for b in server.bodies}) == 1
    assert all(b["stream"] for b in server.bodies)
    assert page.value(ANSWERS) == [EVIL] * 3


def test_text_of_a_model_is_text_wherever_it_stands(page, server):
    page.value("document.getElementById('kl').click()")
    ask(page)
    assert page.value("document.querySelectorAll('main img, main script, header img').length") == 0
    assert EVIL in page.value("document.getElementById('poles').textContent")
    assert EVIL.replace(" ", "␣") in page.value(
        "document.querySelector('.token-name:nth-child(1)').closest('table').textContent"
    )
    assert page.value("document.querySelector('#questions button').textContent") == EVIL


def test_a_question_of_the_behavior_is_asked_by_one_click(page, server):
    page.value("document.querySelectorAll('#questions button')[1].click()")
    page.wait(f"{STATUS} == '3 answers written.'")
    assert {b["messages"][-1]["content"] for b in server.bodies} == {"Where does a crab live?"}


def test_the_answer_comes_word_by_word_and_escape_ends_it(page, server):
    server.answer, server.pause = "one two three four five six", 0.15
    page.value("document.getElementById('go').click()")
    page.wait("document.querySelector('.answer').textContent == 'one two '", 10)
    assert page.value("document.querySelector('.answer').getAttribute('aria-busy')") == "true"
    page.press("Escape")
    page.wait(f"{STATUS} == 'Stopped.'")
    shown = page.value(ANSWERS)
    page.wait("document.getElementById('stop').disabled")
    time.sleep(0.4)
    assert page.value(ANSWERS) == shown
    assert all(len(text) < len(server.answer) for text in shown)
    assert server.left > 0  # the server sees that its client is gone


def test_the_settings_go_with_the_request_and_another_seed_asks_again(page, server):
    page.value("document.getElementById('late').click()")
    page.value("document.getElementById('think').click()")
    page.value("document.getElementById('system').value = 'Be brief.'")
    page.value("document.getElementById('again').click()")
    page.wait(f"{STATUS} == '3 answers written.'")
    body = server.bodies[0]
    assert (body["seed"], body["temperature"], body["steer_from"]) == (1, 0.7, "answer")
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    page.value("document.getElementById('again').click()")
    page.wait(f"{STATUS} == '3 answers written.' && document.getElementById('seed').value == '2'")
    page.wait("document.getElementById('stop').disabled")
    assert server.bodies[-1]["seed"] == 2


def test_what_one_column_is_refused_is_said_there_and_the_others_go_on(page, server):
    server.refuse = lambda body: "honesty is far " + EVIL if body.get("steer", {}).get("honesty", 0) > 0 else None
    ask(page, ended="failed.")
    assert page.value(STATUS) == "1 of 3 answers failed."
    assert page.value(ANSWERS) == [EVIL, EVIL, "honesty is far " + EVIL]


def test_an_error_in_a_stream_stands_below_what_came_before_it(page, server):
    server.answer = "so far BROKEN"
    ask(page, ended="failed.")
    assert page.value(ANSWERS) == ["so far BROKENthe numbers overflow"] * 3


def test_a_server_with_a_key_is_asked_when_the_key_is_there(browser, server):
    server.key = "secret"
    page = browser.open(server.address)
    page.wait("!document.getElementById('key').hidden")
    assert page.value("document.querySelectorAll('.column').length") == 0
    focus(page, "#key input")
    page.type("secret")
    page.press("Enter")
    page.wait("document.querySelectorAll('.column').length == 3")
    ask(page)
    assert page.value(ANSWERS) == [EVIL] * 3
    assert not page.value("Object.values(localStorage).concat(Object.values(sessionStorage), document.cookie).join('')")


# ---------------------------------------------------------------- dials


def test_slider_and_number_are_one_strength_by_keyboard_alone(page, server):
    focus(page, ".column:nth-child(2) input[type=range]")
    page.press("ArrowRight")
    page.press("ArrowRight")
    value = page.value("document.querySelector('.column:nth-child(2) input[type=number]').value")
    assert float(value) == pytest.approx(0.06)
    assert page.value("document.querySelector('.column:nth-child(2) h2').textContent") == "honesty +0.06"
    focus(page, ".column:nth-child(2) input[type=number]")
    page.value("document.activeElement.select()")
    page.type("-0.5")
    assert page.value(
        "Number(document.querySelector('.column:nth-child(2) input[type=range]').value)"
    ) == pytest.approx(-0.5, abs=0.02)
    ask(page)
    assert {"honesty": -0.5} in [b.get("steer") for b in server.bodies]


def test_several_directions_are_turned_at_once(page, server):
    assert "can be turned: honesty (lora), authority." in page.value("document.getElementById('about').textContent")
    focus(page, ".column:nth-child(1) .dial:nth-of-type(3) input[type=number]")
    page.value("document.activeElement.select()")
    page.type("1.5")
    ask(page)
    assert {"honesty": -1.6964045379130763, "authority": 1.5} in [b.get("steer") for b in server.bodies]
    assert page.value("document.querySelector('h2').textContent") == "honesty -1.696, authority +1.5"


WARNED = "document.querySelector('.column:nth-child(2) .warn').textContent"


def test_what_is_known_of_a_strength_is_said(page):
    focus(page, ".column:nth-child(2) input[type=number]")
    for typed, said in (
        ("1", ""),
        ("2.5", "beyond what was measured"),
        ("9", "honesty can be turned from -3 to +3 here."),
    ):
        page.value("document.activeElement.select()")
        page.type(typed)
        assert page.value(WARNED) == said
    page.press("Tab")
    assert page.value(NUMBERS)[1][0] == "2.5"  # what cannot be taken goes back
    band = page.value("getComputedStyle(document.querySelector('input[type=range]')).getPropertyValue('--track')")
    assert re.findall(r"[\d.]+%", band) == ["21.73%", "21.73%", "81.24%", "81.24%"]
    second = "document.querySelectorAll('.column:nth-child(2) .warn')[1].textContent"
    focus(page, ".column:nth-child(2) .dial:nth-of-type(3) input[type=number]")
    page.type("1")
    assert page.value(second) == "not calibrated: how far this moves the model was not measured"


def test_a_tick_is_the_calibrated_strength_with_all_of_its_digits(page, server):
    page.value("document.querySelectorAll('.column:nth-child(2) .ticks button')[2].click()")
    assert page.value(WARNED) == "1 nat"
    ask(page)
    assert [b.get("steer") for b in server.bodies].count({"honesty": 1.874245248533418}) == 2


BOXES = "[...document.querySelector('.ticks').children].map(b => b.getBoundingClientRect()).map(r => [r.left, r.right, r.top])"


@pytest.mark.parametrize("width", [400, 900, 1180])
def test_marks_that_lie_close_do_not_cover_each_other(browser, server, monkeypatch, width):
    known = [{"budget": b, "neg": -a, "pos": a, "matched": True} for b, a in ((0.1, 0.3), (0.3, 0.6), (1, 1.6))]
    monkeypatch.setitem(DIALS[0], "calibrated", known)
    page = browser.open(server.address, width=width)
    page.wait("document.querySelectorAll('.column').length > 1")
    boxes = page.value(BOXES)
    assert len(boxes) == 7
    for n, (left, right, top) in enumerate(boxes):
        assert not [b for b in boxes[n + 1 :] if abs(b[2] - top) < 10 and b[0] < right and left < b[1]]


def test_columns_come_and_go(page, server):
    page.value("document.getElementById('add').click()")
    page.value("document.querySelector('[aria-label=\"Remove this column\"]').click()")
    assert page.value("document.querySelectorAll('.column').length") == 3
    assert page.value("document.activeElement.type") == "range"  # the focus is not lost
    assert page.value(STATUS) == "3 columns left."
    ask(page)
    assert len(server.bodies) == 3


# ---------------------------------------------------------------- numbers


def test_the_first_token_has_its_probabilities_and_kl_is_shown_only_where_it_is_given(page, server):
    server.answer = "one two"
    ask(page)
    first = page.value(
        "[...document.querySelectorAll('.column:nth-child(1) tbody tr')].map(r => r.cells[1].textContent)"
    )
    assert first == ["90.5 %", "5.0 %"]
    titles = "[...document.querySelectorAll('.column:nth-child(1) .token')].map(t => t.title)"
    assert page.value(titles) == ["one␣: 90.5 %", "two: 90.5 %"]
    page.value("document.getElementById('colors').click()")  # which asks for it
    ask(page)
    assert page.value(titles) == ["one␣: 90.5 %, 0.000 nat from the base", "two: 90.5 %, 0.250 nat from the base"]
    color = "getComputedStyle(document.querySelectorAll('.column:nth-child(1) .token')[1]).backgroundColor"
    assert page.value(color) != "rgba(0, 0, 0, 0)"
    page.value("document.getElementById('colors').click()")
    assert page.value(color) == "rgba(0, 0, 0, 0)"
    page.value("document.querySelector('.column details summary').click()")
    page.wait("document.querySelectorAll('.column:nth-child(1) details tbody tr').length == 2")


# ---------------------------------------------------------------- taking it elsewhere


def test_a_saved_page_opens_without_a_server_and_runs_nothing(page, browser, server, tmp_path):
    page.value("document.getElementById('kl').click()")
    ask(page)
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.value("document.getElementById('save').click()")
    file = tmp_path / "ws-playground.html"
    for _ in range(100):
        if file.is_file():
            break
        time.sleep(0.05)
    text = file.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"<script|<link|<img|<form|https?://(?!127)", text)
    saved = browser.open(file.as_uri())
    assert saved.value("[...document.querySelectorAll('.answer')].map(a => a.textContent)") == [EVIL] * 3
    assert saved.value("document.querySelector('h1').textContent") == EVIL
    assert saved.value("[...document.querySelectorAll('h2')].map(h => h.textContent)") == [
        "honesty -1.696",
        "the base",
        "honesty +1.874",
    ]
    assert saved.asked() == [file.as_uri()]
    assert not saved.complaints()


def copied(page, name):
    page.value("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve() }")
    page.value(
        f"[...document.querySelectorAll('.column:nth-child(3) .foot button')].find(b => b.textContent.endsWith('{name}')).click()"
    )
    page.wait(f"{STATUS}.endsWith('copied as {name}.')")
    return page.value("window.copied")


def test_a_request_copied_as_curl_asks_the_same(page, server):
    page.value('document.getElementById(\'prompt\').value = "It\'s a \\"test\\" of $HOME\\\\n"')
    done = subprocess.run(["bash", "-c", copied(page, "curl")], capture_output=True, text=True, check=True)
    assert "data: [DONE]" in done.stdout
    (body,) = server.bodies
    assert body["messages"] == [{"role": "user", "content": 'It\'s a "test" of $HOME\\n'}]
    assert body["steer"] == {"honesty": 1.874245248533418}


def test_a_request_copied_as_python_asks_the_same(page, server, monkeypatch, capsys):
    page.value("document.getElementById('late').click()")
    asked = {}

    def create(**body):
        asked.update(body)
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content="fine"))])

    def client(base_url, api_key):
        asked["at"] = base_url
        return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))

    openai = ModuleType("openai")
    openai.OpenAI = client
    monkeypatch.setitem(sys.modules, "openai", openai)
    exec(compile(copied(page, "Python"), "copied", "exec"), {})
    assert capsys.readouterr().out == "fine\n"
    assert asked["at"] == f"{server.address}v1"
    assert asked["messages"] == [{"role": "user", "content": EVIL}]
    assert asked["extra_body"] == {"steer": {"honesty": 1.874245248533418}, "steer_from": "answer"}


# ---------------------------------------------------------------- for everybody


def test_everything_that_can_be_used_has_a_name(page, server):
    ask(page)
    used = ("button", "slider", "spinbutton", "checkbox", "textbox", "DisclosureTriangle")
    controls = [(role, name) for role, name in page.named() if role in used]
    assert len(controls) > 40
    assert not [c for c in controls if not c[1].strip()]
    assert ("slider", "Strength of honesty") in controls
    assert "status" in {role for role, _ in page.named()}


def test_the_whole_page_is_reached_by_the_keyboard_in_the_order_it_is_read(page):
    focus(page, "#prompt")
    seen = []
    for _ in range(30):
        page.press("Tab")
        seen.append(
            page.value("document.activeElement.id || document.activeElement.type || document.activeElement.tagName")
        )
        if seen[-1] == "range":
            break
    assert seen.index("go") < seen.index("again") < seen.index("add") < seen.index("save") < seen.index("range")


@pytest.mark.parametrize("width", [320, 400, 800, 1400])
def test_nothing_runs_out_of_the_screen(page, width):
    page.resize(width, 800)
    page.value("document.getElementById('more').open = true")
    assert page.value("document.documentElement.scrollWidth") <= width


def test_it_is_dark_where_the_reader_wants_it_dark(browser, server):
    colors = []
    for dark in (False, True):
        page = browser.open(server.address, dark=dark)
        colors.append(page.value("getComputedStyle(document.body).backgroundColor"))
    assert colors == ["rgb(255, 255, 255)", "rgb(21, 23, 26)"]


def test_it_is_painted_before_it_knows_what_the_server_can_do(browser, server):
    server.known.clear()
    try:
        page = browser.open(server.address)
        page.wait("performance.getEntriesByName('first-contentful-paint').length > 0")
        assert page.value("document.querySelectorAll('input[type=range]').length") == 0
    finally:
        server.known.set()
    page.wait("document.querySelectorAll('input[type=range]').length > 0")


# ---------------------------------------------------------------- with the server itself


@pytest.fixture(scope="module")
def real(tiny):
    """`ws serve` with two directions at an address of this machine."""
    import uvicorn

    from ws.serve.app import Server
    from ws.serve.listen import bound
    from ws.serve.settings import Serving
    from ws.serve.strengths import dials_of

    directions = [(name, lowrank(tiny, seed=s, size=1.0)) for s, name in enumerate(("honesty", "authority"))]
    served = Server(tiny, dials_of("tiny", directions, None), Serving(), {"honesty": ["What is the capital of Kenya?"]})
    place = bound("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(served.app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{place.getsockname()[1]}/", dict(directions)
    server.should_exit = True
    thread.join(30)


def test_what_the_columns_show_is_what_the_steered_model_writes(browser, real, tiny):
    address, directions = real
    page = browser.open(address)
    page.wait("document.querySelectorAll('.column').length == 3")
    page.value("document.getElementById('tokens').value = 12")
    page.value("document.getElementById('kl').click()")
    focus(page, ".column:nth-child(3) .dial:nth-of-type(3) input[type=number]")
    page.value("document.activeElement.select()")
    page.type("-1.5")
    ask(page)
    wanted = []
    for honesty, authority in ((-1.0, 0.0), (0.0, 0.0), (1.0, -1.5)):
        with ws.steer(tiny, directions["honesty"], honesty), ws.steer(tiny, directions["authority"], authority):
            wanted.append(ws.generate(tiny, "What is the capital of Kenya?", max_new_tokens=12))
    assert page.value(ANSWERS) == wanted
    assert len(set(wanted)) > 1
    titles = page.value(
        "[...document.querySelectorAll('.column')].map(c => [...c.querySelectorAll('.token')].map(t => t.title))"
    )
    far = [[float(nats) for title in column for nats in re.findall(r"([\d.]+) nat", title)] for column in titles]
    assert not any(far[1]) and any(far[0]) and any(far[2])
    assert not page.complaints()
    assert all(place.startswith((address, "data:")) for place in page.asked())


def test_what_the_server_allows_is_what_the_slider_can_reach(browser, real):
    page = browser.open(real[0])
    page.wait("document.querySelectorAll('.column').length == 3")
    ends = page.value(
        "[document.querySelector('input[type=range]').min, document.querySelector('input[type=range]').max]"
    )
    for end in ends:
        focus(page, ".column input[type=number]")
        page.value("document.activeElement.select()")
        page.type(end)
        assert page.value("document.activeElement.value") == end
        ask(page)


@pytest.mark.peers
def test_playwright_drives_the_page_as_a_person_does(real, tiny, tmp_path):
    """Slider, number, columns, streaming, saving, the dark and the keyboard, by another driver of the same browser."""
    playwright = pytest.importorskip("playwright.sync_api")
    if executable() is None:
        pytest.skip("there is no Chromium on the path")
    address, directions = real
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        page = browser.new_page(color_scheme="dark")
        complaints: list[str] = []
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.goto(address)
        columns = page.locator(".column")
        playwright.expect(columns).to_have_count(3)
        page.get_by_role("button", name="Add a column").click()
        playwright.expect(columns).to_have_count(4)
        last = columns.nth(3)
        slider = last.get_by_role("slider", name="Strength of honesty")
        number = last.get_by_role("spinbutton", name="Strength of honesty as a number")
        number.fill("-1.5")
        assert slider.input_value() == "-1.5"
        slider.focus()
        slider.press("ArrowRight")
        turned = float(number.input_value())
        assert turned > -1.5
        page.get_by_text("Settings", exact=True).click()
        page.get_by_label("Longest answer, tokens").fill("12")
        page.get_by_label("Question", exact=True).fill("What is the capital of Kenya?")
        page.keyboard.press("Control+Enter")
        playwright.expect(page.get_by_role("status")).to_have_text("4 answers written.", timeout=60_000)
        with ws.steer(tiny, directions["honesty"], turned):
            written = ws.generate(tiny, "What is the capital of Kenya?", max_new_tokens=12)
        assert last.locator(".answer").text_content() == written
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as a page").click()
        download.value.save_as(tmp_path / "saved.html")
        assert not complaints
        papers = []
        for scheme in ("dark", "light"):
            saved = browser.new_context(offline=True, color_scheme=scheme).new_page()
            saved.goto((tmp_path / "saved.html").as_uri())
            assert written in saved.inner_text("main")
            papers.append(saved.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert papers[0] == page.evaluate("getComputedStyle(document.body).backgroundColor") != papers[1]
        browser.close()
