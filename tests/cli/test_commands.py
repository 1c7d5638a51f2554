"""The command line: help, versions, layers of configuration, and what each command prints."""

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

import entrocraft
from trainer.config import TrainConfig
from trainer.parsing import PRESETS, load_config
from trainer.pretrain import PretrainConfig

ROOT = Path(__file__).parents[2]


def described(configuration, prefix=""):
    """Yield (option, description) of every field; the description is the docstring's."""
    text = configuration.__doc__.partition("Args:")[2]
    entries = {name: " ".join(what.split()) for name, what in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", text, re.M)}
    for field in fields(configuration):
        yield f"--{prefix}{field.name}", entries[field.name]
        if is_dataclass(field.default_factory):
            yield from described(field.default_factory, f"{field.name}.")


def test_every_command_has_help(command):
    names = {
        "quickstart",
        "train",
        "evaluate",
        "export",
        "pretrain",
        "presets",
        "report",
        "figures",
        "theory",
        "methods",
        "simulate",
        "study",
    }
    assert entrocraft.COMMANDS.keys() == names
    for name in entrocraft.COMMANDS:
        shown = command(name, "--help")
        assert shown.code == 0
        assert f"entrocraft {name}" in shown.printed
    for flag in ("--help", "-h"):
        shown = command(flag)
        assert shown.code == 0
        for name, (what, _) in entrocraft.COMMANDS.items():
            assert re.search(rf"{name} +{what}", shown.printed)


@pytest.mark.parametrize(("name", "configuration"), [("train", TrainConfig), ("pretrain", PretrainConfig)])
def test_help_describes_every_setting(command, monkeypatch, name, configuration):
    monkeypatch.setenv("COLUMNS", "300")
    shown = command(name, "--help").printed
    options = dict(described(configuration))
    assert len(options) > 10
    told = " ".join(shown.split())
    for option, description in options.items():
        assert re.search(rf"^ +{re.escape(option)} ", shown, re.M), option
        assert len(description) > 4, option
        assert description.rstrip(".") in told, option


def test_the_version_is_that_of_the_project(command):
    shown = command("--version")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (shown.code, shown.printed) == (0, f"{project['version']}\n")


def test_an_unknown_command_is_a_wrong_call(command):
    called = command("trian")
    assert called.code == 2
    assert "no command 'trian'" in called.said
    assert "quickstart" in called.said
    assert command().code == 2


def test_help_loads_neither_torch_nor_transformers():
    """A process of its own: here everything is loaded already."""
    code = "import sys, entrocraft; entrocraft.main(['--help']); entrocraft.main(['--version'])\n"
    code += "print([name for name in ('torch', 'transformers', 'matplotlib', 'trainer') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_print_config_writes_nothing_and_can_be_read_again(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = command("train", "--config", "quickstart", "--rollout.group_size=4", "--print_config")
    assert shown.code == 0
    assert not list(tmp_path.iterdir())
    (tmp_path / "printed.yaml").write_text(shown.printed)
    assert yaml.safe_load(shown.printed)["rollout"]["group_size"] == 4
    assert load_config("--config", "printed.yaml") == load_config("--config=quickstart", "--rollout.group_size=4")


def test_presets_are_layers(tmp_path, monkeypatch):
    """Later ones override earlier ones where they say something, and the command line overrides all."""
    monkeypatch.chdir(tmp_path)
    plain, quick = load_config(), load_config("--config", "quickstart")
    assert (quick.steps, quick.algorithm.filter) == (240, "none")
    both = load_config("--config", "quickstart", "--config", "released")
    assert (both.steps, both.algorithm.filter, both.algorithm.denominator) == (240, "released", "zero")
    assert both.reward.convention == "signed"
    assert load_config("--config", "quickstart", "--config", "released", "--config", "algorithm1").algorithm == (
        load_config("--config", "algorithm1").algorithm
    )
    assert load_config("--config", "released").steps == plain.steps
    assert load_config("--config", "quickstart", "--steps", "3").steps == 3
    (tmp_path / "mine.yaml").write_text("steps: 7\nalgorithm: {kl: 0.5}\n")
    layered = load_config("--config", "released", "--config", "mine.yaml", "--algorithm.kl", "0.25")
    assert (layered.steps, layered.algorithm.kl, layered.algorithm.filter) == (7, 0.25, "released")


@pytest.mark.parametrize("preset", [*(path.stem for path in PRESETS.glob("*.yaml")), "algorithm1", "released"])
def test_presets_can_be_named_in_both_ways(preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("--config", preset) == load_config(f"--config={preset}") != load_config()


def test_a_file_wins_over_a_preset_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("steps: 5\n")
    assert load_config("--config", "quickstart").steps == 5


def test_a_run_directory_does_not_hide_the_preset_of_its_name(tmp_path, monkeypatch):
    """`--config released --output released` must work twice."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "released").mkdir()
    assert load_config("--config", "released").algorithm.filter == "released"


def test_the_environment_variable_shows_the_traceback(command, monkeypatch, tmp_path):
    monkeypatch.setenv("ENTROCRAFT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="GRPO"):
        command("train", f"--output={tmp_path / 'run'}", "--rollout.group_size=1")


def test_a_users_module_is_found_in_the_current_folder(command, tmp_path, monkeypatch):
    """A console script does not have it on its path by itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only_here.py").write_text("def keep(groups):\n    raise ValueError('called ' + __name__)\n")
    run = command("train", "--output=run", "--algorithm.filter=only_here:keep", "--steps=1", "--rollout.prompts=4")
    assert run.code == 1
    assert "called only_here" in run.said


def test_output_that_nobody_reads_on_is_no_error():
    """As in `entrocraft --help | head -1`: the reader is gone before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, "-m", "entrocraft", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (0, "")
