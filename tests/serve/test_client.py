"""`ws.connect`, and the plain `openai` package, against a server on a port of this machine."""

import pytest
from serve.test_server import listening, steered
from test_steer import lowrank

import ws
from ws.errors import EndpointFailed

PROMPT = "What is the capital of Kenya?"


@pytest.fixture(scope="module")
def directions(tiny):
    return [("honesty", lowrank(tiny, seed=0, size=1.0))]


def test_a_chat_over_a_connection_is_the_steered_models_own(tiny, directions):
    with listening(tiny, directions) as (port, _):
        for url in (f"http://127.0.0.1:{port}", f"http://localhost:{port}/v1/"):
            server = ws.connect(url)
            assert server.names == ["base", "honesty"]
            for alpha in (-2.0, 0.0):
                text = server.chat(PROMPT, steer={"honesty": alpha}, max_new_tokens=12)
                assert text == steered(tiny, directions, {"honesty": alpha})
        assert server.chat(PROMPT, max_new_tokens=12) == text
        with pytest.raises(EndpointFailed, match=r"from -2 to 2 here; got 3"):
            server.chat(PROMPT, steer={"honesty": 3})
        with pytest.raises(EndpointFailed, match=r"did you mean honesty\?$"):  # and no option that `ws.connect` has not
            server.chat(PROMPT, steer={"honestly": 1})
    with pytest.raises(EndpointFailed, match="there is no server"):
        ws.connect(f"http://127.0.0.1:{port}")
    with pytest.raises(ValueError, match=r"^`url` takes an address"):
        ws.connect("nonsense")


def test_a_key_is_sent_by_the_connection(tiny, directions):
    with listening(tiny, directions, key="secret") as (port, _):
        assert ws.connect(f"http://127.0.0.1:{port}", key="secret").chat(PROMPT, max_new_tokens=12)
        with pytest.raises(EndpointFailed, match=r"401.*variable WS_SERVE_KEY"):
            ws.connect(f"http://127.0.0.1:{port}", key="wrong").chat(PROMPT)


@pytest.mark.peers
def test_the_openai_package_names_strengths_by_model_or_by_extra_body(tiny, directions):
    openai = pytest.importorskip("openai")
    with listening(tiny, directions) as (port, _):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        assert [m.id for m in client.models.list()] == ["base", "honesty"]
        said = {"messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 12}
        expected = steered(tiny, directions, {"honesty": -2.0})
        named = client.chat.completions.create(model="honesty@-2", **said)
        assert named.choices[0].message.content == expected
        body = client.chat.completions.create(model="base", extra_body={"steer": {"honesty": -2.0}}, **said)
        assert body.choices[0].message.content == expected
        chunks = list(client.chat.completions.create(model="honesty@-2", stream=True, logprobs=True, **said))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == expected
        assert chunks[1].choices[0].logprobs.content[0].logprob < 0
        text = client.completions.create(model="base", prompt="The capital of Kenya is", temperature=0, logprobs=1)
        assert text.choices[0].text.startswith(" Nairobi")
        with pytest.raises(openai.NotFoundError, match="there is no"):
            client.chat.completions.create(model="nobody", **said)
        with pytest.raises(openai.BadRequestError, match="from -2 to 2"):
            client.chat.completions.create(model="honesty@9", **said)
