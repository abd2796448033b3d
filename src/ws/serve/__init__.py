"""A server of the OpenAI API whose requests name their own strengths, and the client that asks it.

    ws serve honesty --model tiny                                   http://127.0.0.1:8000, a page at /

    POST /v1/chat/completions   {"model": "honesty@-0.8", "messages": [...]}
    POST /v1/completions        {"model": "base", "prompt": "..."}
    GET  /v1/models             the base and every direction, with its range, poles, calibrated strengths and questions
    GET  /v1/models/NAME        one of them, or a name with a strength that a request may use
    GET  /health, /metrics, /openapi.json

Besides the fields of the OpenAI API a body may hold

    "steer": {"honesty": -0.8, "authority": 0.5}     instead of, or besides, the strengths in `model`
    "steer_from": "answer"                           the prompt is read unsteered, so that one reading serves all strengths
    "kl": true                                       each entry of `logprobs` gets "kl", in nats to the base (with or without `logprobs`)

and every reply, whole or in chunks, says in "ws": {"steer": {...}, "steer_from": ...} how it was written. A stream is one
`data: {...}` a token, `choices[0].delta.content` its text, and `data: [DONE]` at the end; an error in a stream is
`data: {"error": {"message": ...}}`. An error before it is a status and the same body. Where the server has a key, it comes as
`Authorization: Bearer KEY`; static files below `page/` need none, and are served by their names, `index.html` at `/`.

| file           | holds                                                                       |
|----------------|-----------------------------------------------------------------------------|
| `settings.py`  | where it stands, and its limits                                             |
| `strengths.py` | how far each direction is turned, as a request names it                     |
| `requests.py`  | what clients send, checked                                                  |
| `reading.py`   | prompts, read in pieces, and the pieces that are kept                       |
| `text.py`      | an answer's text as it grows                                                |
| `batch.py`     | answers written side by side, each at strengths of its own                  |
| `worker.py`    | the one thread that owns the model                                          |
| `replies.py`   | answers in the shapes of the API                                            |
| `gate.py`      | who may ask, and how errors look                                            |
| `app.py`       | the HTTP side                                                               |
| `llama_cpp.py`, `run_xllamacpp.py` | llama.cpp as a process beside this one                  |
| `proxy.py`     | our strengths as scales of its adapters                                     |
| `openapi.py`   | the server's own description                                                |
| `metrics.py`   | its numbers                                                                 |
| `listen.py`    | the address                                                                 |
| `client.py`    | asking such a server                                                        |
| `conformance.py`, `promise.py` | whether any server keeps what a strength per request means  |
"""
