"""Numbers of a running server, as Prometheus reads them."""

from ws.serve.reading import Pieces
from ws.serve.worker import Worker


def metrics_text(worker: Worker, pieces: Pieces) -> str:
    """One line for each number, after what it is."""
    c = worker.counts
    lines = ["# HELP ws_requests_total Requests by status.", "# TYPE ws_requests_total counter"]
    lines += [f'ws_requests_total{{status="{status}"}} {n}' for status, n in sorted(dict(c.requests).items())]
    for name, kind, what, value in (
        ("ws_answers", "gauge", "Answers that are written or wait.", worker.answers),
        ("ws_prompt_tokens_total", "counter", "Tokens of prompts.", c.prompt_tokens),
        ("ws_cached_tokens_total", "counter", "Tokens of prompts that had been read before.", c.cached_tokens),
        ("ws_new_tokens_total", "counter", "Tokens that were written.", c.new_tokens),
        ("ws_steps_total", "counter", "Steps of the model.", c.steps),
        ("ws_first_token_seconds_sum", "counter", "Seconds until the first token, over all requests.", c.first_seconds),
        ("ws_first_token_seconds_count", "counter", "Requests that got a first token.", c.first_tokens),
        ("ws_prefix_cache_bytes", "gauge", "Memory of prompts that were read.", pieces.bytes),
    ):
        lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", f"{name} {value}"]
    return "\n".join(lines) + "\n"
