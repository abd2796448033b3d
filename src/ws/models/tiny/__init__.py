"""`tiny`: the embedded model, a Qwen3 of 1.5 M parameters that lives in a small synthetic world with four traits.

The folder `model` is what any loader of Hub models can read; `evals` holds its evaluation sets, `twins`
harmless ones in the layouts of the paper's data sets. What builds them is no part
of the package: `tools/tiny` in the repository. Importing this module costs nothing.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "model"
EVALS = Path(__file__).parent / "evals"
TWINS = Path(__file__).parent / "twins"

__all__ = ["EVALS", "FOLDER", "TWINS"]
