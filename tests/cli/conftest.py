"""The fixtures of `tests/e2e`: commands are called as runs are."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest

import entrocraft
from entropy_theory.cli import ACTIONS
from figures.cli import figures_parser
from figures.ledger.cli import ledger_parser
from figures.report_cli import report_parser
from simulations.cli import simulate_parser
from simulations.experiments import EXPERIMENTS
from trainer.cli import export_parser, presets_command, pretrain_parser, train_parser
from trainer.evaluate_command import evaluate_parser
from trainer.listing import methods_command
from trainer.parsing import PRETRAIN_PRESETS, with_preset_paths
from trainer.study.cli import action_of

_spec = importlib.util.spec_from_file_location("entrocraft_runs", Path(__file__).parents[1] / "e2e" / "conftest.py")
_runs = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _runs
_spec.loader.exec_module(_runs)

offline, plugins, tiny, command = _runs.offline, _runs.plugins, _runs.tiny, _runs.command
copied, base_weights = _runs.copied, _runs.base_weights

PARSERS = {"train": cache(train_parser), "evaluate": cache(evaluate_parser)}


@pytest.fixture
def understood():
    """What checks that the words of a command of ours are ones that the program takes."""

    def check(words):
        name, *arguments = entrocraft.with_values(words)
        if "--help" in words:
            assert name == "--help" or name in entrocraft.COMMANDS
        elif name in PARSERS:
            assert PARSERS[name]().parse_args(with_preset_paths(arguments)).steps > 0
        elif name == "pretrain":
            assert pretrain_parser().parse_args(with_preset_paths(arguments, PRETRAIN_PRESETS, {})).output
        elif name == "export":
            assert export_parser().parse_args(arguments).output
        elif name == "presets":
            assert presets_command(arguments) == 0
        elif name == "theory":
            _, options, _ = ACTIONS[arguments[0]]
            options().parse_args(arguments[1:])
        elif name == "methods":
            assert methods_command(arguments) == 0
        elif name == "report":
            assert report_parser().parse_args(arguments).runs
        elif name == "study":
            action, own = action_of(arguments)
            action.parser().parse_args(own)
        elif name == "simulate":
            assert simulate_parser(EXPERIMENTS[arguments[0]]).parse_args(arguments[1:]).output
        elif arguments[:1] == ["ledger"]:
            assert ledger_parser().parse_args(arguments[1:]).output
        else:
            assert name == "figures"
            assert figures_parser().parse_args(arguments).action == "build"

    return check
