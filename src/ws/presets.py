"""Named sets of defaults.

`ws` is ours. `pub` follows the published research fork, `paper` follows Fierro & Roger (2025), as far as their choices
are settings here. A preset only changes defaults: a config file or a flag still wins, and the record holds what was used.
"""

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ws": {},
    "pub": {
        "data": {"n_topics": 20, "n_personas": 5, "n_samples": 10, "shuffle_topics": False, "thinking": "on"},
        "train": {"rank": 32, "lora_alpha": 64.0, "lr": (2e-4,), "epochs": 1.0, "batch_size": 16},
        "protocol": {
            "sycophancy": "syco-yn/pub1", "dilemmas": "dd-1f/pub-new", "airisk": "airisk-truth/pub1",
            "tinymfv": "mfv-json/pub", "foundations": "mfv-json/pub",
        },
        "calibrate": {"budget": 0.5, "tolerance": 0.1},  # half a nat, within 0.05 nat
    },
    "paper": {
        "data": {"n_topics": 20, "n_personas": 5, "n_samples": 10, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_len": 4096},
        "train": {"rank": 32, "lora_alpha": 16.0, "lr": (1e-5,), "layers": "all", "batch_size": 8, "val_share": 0.05, "max_len": 4096, "init": "independent"},
        "protocol": {},
    },
}  # fmt: skip


def preset(name: str, part: str) -> dict[str, Any]:
    """What a preset says about one part: data, train, protocol or calibrate."""
    if name not in PRESETS:
        raise ValueError(f"preset is one of {', '.join(PRESETS)}; got {name!r}")
    return PRESETS[name].get(part, {})
