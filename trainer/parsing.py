"""How a configuration is read and written.

YAML presets state differences from the defaults, the command line overrides presets, and the resolved result is written
into the run directory, where it can be read again.
"""

from argparse import ArgumentError
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from trainer.config import TrainConfig
from trainer.methods.lookup import nearest
from trainer.methods.recipes import RECIPES, training_settings

PRESETS = Path(__file__).parent / "presets"
PRETRAIN_PRESETS = PRESETS / "pretrain"


def config_parser(*, skip: Collection[str] = (), **kwargs: Any) -> ArgumentParser:
    """Return the parser that both the command line and `load_config` use; `skip` leaves settings out."""
    parser = ArgumentParser(**kwargs)
    parser.add_argument(
        "--config",
        action="config",
        help="a YAML file, a preset's name (`entrocraft presets` lists them) or a "
        "recipe's; later ones override earlier",
    )
    parser.add_class_arguments(TrainConfig, as_group=False, skip=set(skip))
    return parser


def with_preset_paths(
    arguments: Sequence[str], folder: Path = PRESETS, recipes: Mapping[str, Any] = RECIPES
) -> list[str]:
    """Return command-line arguments with the names of presets and recipes after `--config` replaced by what they hold.

    Args:
        arguments: of the command line.
        folder: where its presets are.
        recipes: its recipes by name.

    Raises:
        ValueError: neither a file nor a preset nor a recipe.
    """
    resolved = [part for argument in arguments for part in split_config(argument)]
    for index, value in enumerate(resolved[1:], 1):
        if resolved[index - 1] == "--config" and not Path(value).is_file():
            preset = folder / f"{value}.yaml"
            presets = list(described_presets(folder))
            if preset.is_file():
                resolved[index] = str(preset)
            elif value in recipes:
                resolved[index] = yaml.safe_dump(training_settings(value))
            else:
                or_recipe = f" or one of the recipes {sorted(recipes)}" if recipes else ""
                raise ValueError(
                    f"--config {value} must name a YAML file or one of the presets {presets}{or_recipe}; got neither. "
                    f"{nearest(value, [*presets, *recipes])}"
                )
    return resolved


def described_presets(folder: Path = PRESETS) -> dict[str, str]:
    """Return the presets in a folder by name, each with the first line of its comment.

    >>> described_presets()["quickstart"]
    'The main job in miniature: GRPO on countdown from the shipped base model.'
    """
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for path in sorted(folder.glob("*.yaml"))
    }


def split_config(argument: str) -> list[str]:
    """Return `--config=NAME` as two arguments, and any other as it is."""
    return argument.split("=", 1) if argument.startswith("--config=") else [argument]


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Return the parsed arguments; each configuration file is read alone first, so that a message can name it.

    Raises:
        ValueError: a file that is not what `--config` reads, or neither a file nor a preset.
    """
    resolved = with_preset_paths(arguments)
    for index, value in enumerate(resolved[1:], 1):
        if resolved[index - 1] == "--config":
            try:
                config_parser(exit_on_error=False).parse_args(["--config", value])
            except (ArgumentError, TypeError, ValueError) as error:
                raise ValueError(f"--config {value} must hold settings of TrainConfig as YAML; got: {error}") from error
    return parser.parse_args(resolved)


def load_config(*arguments: str) -> TrainConfig:
    """Return the configuration that these command-line arguments describe.

    >>> load_config("--config", "quickstart", "--steps", "3").steps
    3
    """
    parser = config_parser(exit_on_error=False)
    return as_config(parser, parse(parser, arguments))


def config_from(settings: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of a mapping of settings, nested as in a YAML file.

    Raises:
        ValueError: an unknown setting, or a value that does not fit.

    >>> config_from({"steps": 3, "rollout": {"group_size": 4}}).rollout.group_size
    4
    """
    parser = config_parser(exit_on_error=False)
    try:
        return as_config(parser, parser.parse_object(dict(settings)))
    except ArgumentError as error:
        raise ValueError(f"config_from(settings) must hold settings of TrainConfig; got {error}") from error


def as_config(parser: ArgumentParser, parsed: Namespace) -> TrainConfig:
    """Return the frozen configuration of parsed arguments.

    Raises:
        ValueError: a value in the place of a group of settings.
    """
    for group in fields(TrainConfig):
        value = parsed.get(group.name)
        if is_dataclass(group.default_factory) and not isinstance(value, Namespace):
            raise ValueError(
                f"{group.name}={value!r} must be a group of settings. Name one of them, as {group.name}.NAME, or nest "
                "them in YAML."
            )
    values = parser.instantiate(parsed)
    return TrainConfig(**{name: value for name, value in values.items() if name in TrainConfig.__dataclass_fields__})


def as_yaml(config: TrainConfig) -> str:
    """Return the resolved configuration as YAML that `--config` reads."""
    return yaml.safe_dump(plain(asdict(config)), sort_keys=False)


def plain(value: Any) -> Any:
    """Return the value with paths as text and tuples as lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
