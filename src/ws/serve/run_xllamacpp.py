"""The server of llama.cpp that the package `xllamacpp` brings, run as a program of its own until its input ends.

python run_xllamacpp.py '{"model": "...", "adapters": [...], "port": 8080, "rows": 4, "threads": 2}'
"""

import json
import os
import sys


def main(text: str) -> None:
    import xllamacpp

    settings = json.loads(text)
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(file, 1.0) for file in settings["adapters"]]
    params.hostnames, params.port = ["127.0.0.1"], settings["port"]
    params.api_keys = [os.environ["LLAMA_API_KEY"]]
    params.n_parallel, params.kv_unified, params.n_ctx = settings["rows"], True, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    server = xllamacpp.Server(params)  # lives as long as this name
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main(sys.argv[1])
