"""The fixtures of `tests/e2e`: commands are called as runs are."""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("entrocraft_runs", Path(__file__).parents[1] / "e2e" / "conftest.py")
_runs = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _runs
_spec.loader.exec_module(_runs)

offline, plugins, tiny, command = _runs.offline, _runs.plugins, _runs.tiny, _runs.command
copied, base_weights = _runs.copied, _runs.base_weights
