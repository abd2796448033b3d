"""The server's own description, as OpenAPI has it: what a body may hold, by the same names and bounds that are checked."""

from ws.serve.requests import FROM, ROLES, STOP_LENGTH, STOPS, TOP
from ws.serve.settings import Serving
from ws.types import Json
from ws.version import __version__


def described(limits: Serving) -> Json:
    """The document at /openapi.json."""
    text, flag = {"type": "string"}, {"type": "boolean"}
    shared: Json = {
        "model": text,
        "steer": {"type": "object", "additionalProperties": {"type": "number"}},
        "steer_from": {"enum": list(FROM)},
        "kl": flag,
        "temperature": _number(0, 100),
        "top_p": _number(1e-6, 1),
        "top_k": _whole(0, 2**31 - 1),
        "min_p": _number(0, 0.999),
        "seed": {"type": "integer"},
        "n": _whole(1, limits.rows),
        "stop": {"type": "array", "maxItems": STOPS, "items": {**text, "minLength": 1, "maxLength": STOP_LENGTH}},
        "max_tokens": _whole(1, limits.max_new_tokens),
        "stream": flag,
        "stream_options": {"type": "object", "properties": {"include_usage": flag}},
        "ignore_eos": flag,
    }
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"enum": list(ROLES)}, "content": text},
    }
    chat = {
        "messages": {"type": "array", "minItems": 1, "items": message},
        "logprobs": flag,
        "top_logprobs": _whole(0, TOP),
        "tools": {"type": "array", "items": {"type": "object"}},
        "tool_choice": {"enum": ["auto", "none"]},
    }
    completion = {"prompt": {**text, "minLength": 1}, "logprobs": _whole(0, TOP), "echo": flag}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ws serve", "version": __version__},
        "paths": {
            "/health": {"get": _answered("alive")},
            "/metrics": {"get": _answered("numbers as Prometheus reads them", "text/plain")},
            "/v1/models": {"get": _answered("the base and every direction")},
            "/v1/models/{name}": {
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": text}],
                "get": _answered("what is known of a name that a request may give as its model"),
            },
            "/v1/chat/completions": {"post": _asked({**shared, **chat}, "messages")},
            "/v1/completions": {"post": _asked({**shared, **completion}, "prompt")},
        },
    }


def _number(least: float, most: float) -> Json:
    return {"type": "number", "minimum": least, "maximum": most}


def _whole(least: int, most: int) -> Json:
    return {"type": "integer", "minimum": least, "maximum": most}


def _answered(what: str, kind: str = "application/json") -> Json:
    refusals = {
        status: {"description": "refused, in one sentence"}
        for status in ("400", "401", "403", "404", "408", "413", "415", "429")
    }
    return {"responses": {"200": {"description": what, "content": {kind: {}}}, **refusals}}


def _asked(fields: Json, required: str) -> Json:
    schema = {"type": "object", "required": [required], "properties": fields}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"requestBody": body, **_answered("the answer, whole or as a stream of events")}
