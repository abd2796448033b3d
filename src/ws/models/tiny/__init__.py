"""`tiny`: the embedded model, a Qwen3 of 1.5 M parameters that lives in a small synthetic world with four traits.

The folder `model` is what any loader of Hub models can read; `evals` holds its evaluation sets. What builds both is no part
of the package: `tools/tiny` in the repository. Importing this module costs nothing.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "model"
EVALS = Path(__file__).parent / "evals"

__all__ = ["EVALS", "FOLDER"]
