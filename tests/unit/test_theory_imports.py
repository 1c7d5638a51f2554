"""`import entropy_theory` stays light: torch and jaxtyping, nothing else of weight and nothing of ours."""

import os
import subprocess
import sys
from pathlib import Path

import entropy_theory

HEAVY = {"transformers", "datasets", "tokenizers", "matplotlib", "sympy", "mpmath", "scipy", "pandas", "beartype"}
OURS = {"trainer", "figures", "simulations", "entrocraft"}


def roots_loaded_by(statement):
    """Top-level modules loaded by one statement in a fresh interpreter that can see the whole repository."""
    program = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    repository = Path(entropy_theory.__file__).parents[1]
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(finished.stdout.split())


def test_import_pulls_nothing_heavy_and_nothing_of_ours():
    loaded = roots_loaded_by("import entropy_theory")
    assert {"entropy_theory", "torch"} <= loaded
    assert not loaded & (HEAVY | OURS)
