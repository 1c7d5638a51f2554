"""What a run depended on: versions, commit, device."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from trainer.config import TrainConfig

PACKAGES = ("entrocraft", "torch", "transformers", "tokenizers", "numpy")


def environment(config: TrainConfig) -> dict[str, Any]:
    """Return what a run depended on: versions, commit, device, seed."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "git_commit": git_commit(),
        "device": torch.cuda.get_device_name() if cuda and config.model.device != "cpu" else "cpu",
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "seed": config.seed,
        "command": sys.argv,
    }


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of the source tree this runs from, -dirty with local changes; None for an installed copy."""
    home = Path(__file__).parent.parent
    if not (home / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=home,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
