"""Named sets of defaults.

`ws` is ours. `pub` follows the published research fork, `paper` follows Fierro & Roger (2025): every field whose value
they say, and ours where they say nothing. docs/presets.md has the table, with the source of each, and what no setting
here can be. A preset only changes defaults: a config file or a flag still wins, and the record holds what was used.
"""

from ws.types import Json

PRESETS: dict[str, dict[str, Json]] = {
    "ws": {},
    "pub": {
        "data": {
            "n_topics": 20,
            "n_personas": 5,
            "n_samples": 10,
            "shuffle_topics": False,
            "thinking": "on",
            "max_len": 512,
            "max_new_tokens": 1280,
            "min_new_tokens": 1024,
        },
        "train": {
            "rank": 32,
            "lora_alpha": 64.0,
            "epochs": 1.0,
            "batch_size": 16,
            "weight_decay": 0.01,
            "warmup": 5,
            "layers": "0.3-0.8",
            "max_len": 512,
            "val_share": 0.1,
            "stop": "none",
        },
        "train lora": {"lr": (2e-4,)},
        "train dora": {"lr": (2e-4,)},
        "train pissa": {"lr": (2e-4,)},
        "train delora": {"lr": (2e-4,), "delora_lambda": 15.0},
        "train oft": {"lr": (2e-4,), "block_size": 8},
        "train boft": {"lr": (2e-4,), "block_size": 8},
        "train ia3": {"lr": (2e-4,), "layers": "all"},  # the fork gave IA3 no layers
        "train bias": {"layers": "all"},  # not in the fork
        "protocol": {
            "sycophancy": "syco-yn/pub1",
            "dilemmas": "dd-1f/pub-new",
            "airisk": "airisk-truth/pub1",
            "tinymfv": "mfv-json/pub",
            "foundations": "mfv-json/pub",
        },
        # half a nat, within 0.05 nat; other prompts need not show that they agree, only not to differ by half
        "calibrate": {
            "budget": 0.5,
            "tolerance": 0.1,
            "n_calib": 50,
            "n_audit": 100,
            "tokens": 50,
            "max_evals": 12,
            "within": 1.5,
            "audit": "point",
        },
    },
    "paper": {
        "data": {
            "n_topics": 20,
            "n_personas": 5,
            "n_samples": 10,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "max_len": 4096,
            "max_new_tokens": 1000,
        },
        "train": {
            "rank": 32,
            "lora_alpha": 16.0,
            "epochs": 1.0,
            "batch_size": 8,
            "weight_decay": 0.01,
            "warmup": 5,
            "layers": "all",
            "max_len": 4096,
            "val_share": 0.05,
            "eval_every": 20,
            "patience": 2,
            "stop": "per_branch",
            "init": "independent",
        },
        "train lora": {"lr": (1e-5,)},
        "train bias": {"lr": (1e-4, 2e-4, 1e-3)},  # sycophancy, refusal, evil
        "protocol": {},
    },
}

PUBLISHED_METHODS = (
    *("ws:lora", "ws:dora", "ws:pissa", "ws:delora", "ws:oft", "ws:ia3"),
    *("repe", "prompt:simple", "prompt:engineered"),
)
"""The methods of the published fork's calibrated tables."""


def preset(name: str, part: str, adapter: str | None = None) -> Json:
    """The values of a preset for one part (data, train, protocol or calibrate), for one adapter family if it is named."""
    if name not in PRESETS:
        raise ValueError(f"preset is one of {', '.join(PRESETS)}; got {name!r}")
    return {**PRESETS[name].get(part, {}), **PRESETS[name].get(f"{part} {adapter}", {})}
