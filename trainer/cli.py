"""The commands `entrocraft train`, `export`, `presets` and `pretrain`."""

import os
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveFloat, PositiveInt

from trainer.config import TrainConfig
from trainer.dry_run import GIB, report
from trainer.export import ExportConfig, export
from trainer.forecast import forecast
from trainer.parsing import (
    PRESETS,
    PRETRAIN_PRESETS,
    as_config,
    config_parser,
    described_presets,
    parse,
    with_preset_paths,
)
from trainer.pretrain import PretrainConfig, pretrain
from trainer.train import train
from trainer.workers import leave


def train_parser() -> ArgumentParser:
    """Return the parser of `entrocraft train`: the settings, and the options of a dry run."""
    parser = config_parser(
        prog="entrocraft train",
        description="Train a causal language model with entropy control.",
    )
    # Not a setting of the run, and so without a default that --print_config would show.
    parser.add_argument(
        "--dry-run",
        action="store_true",
        default=SUPPRESS,
        help="print what the run would need and do (memory, tokens, operations), and write nothing",
    )
    parser.add_argument(
        "--processes", type=PositiveInt, default=SUPPRESS, help="of a dry run: processes that share the work; 1"
    )
    parser.add_argument(
        "--device-memory",
        type=PositiveFloat,
        default=SUPPRESS,
        help="of a dry run: GiB of each device; those of the first GPU where there is one",
    )
    return parser


def train_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft train`."""
    parser = train_parser()
    parsed = parse(parser, arguments)
    config = as_config(parser, parsed)
    if parsed.get("dry_run"):
        print(dry_run(config, parsed.get("processes", 1), parsed.get("device_memory")))
        return 0
    alone = [option for option in ("processes", "device_memory") if option in parsed]
    if alone:
        raise ValueError(f"--{alone[0].replace('_', '-')} must go with --dry-run; got it alone. Add --dry-run.")
    result = train(config)
    # Several processes of a launcher finish together.
    if os.environ.get("RANK", "0") == "0":
        print(f"finished: {result.path / 'summary.json'}")
    leave()
    return 0


def dry_run(config: TrainConfig, processes: int, device_memory: float | None) -> str:
    """Return the text of a dry run, for this machine's GPU where there is one and no other memory is given."""
    on_cpu = config.model.device == "cpu" or not torch.cuda.is_available()
    if device_memory is None and not on_cpu:
        device_memory = torch.cuda.get_device_properties(0).total_memory / GIB
    accelerator = device_memory is not None and config.model.device != "cpu"
    return report(forecast(config, processes=processes, accelerator=accelerator), device_memory)


def export_parser() -> ArgumentParser:
    """Return the parser of `entrocraft export`."""
    parser = ArgumentParser(
        prog="entrocraft export",
        description="Write a checkpoint as a plain Hugging Face model: adapters merged in, trainer's state left out.",
    )
    parser.add_argument(
        "checkpoint", type=Path, help="a checkpoint of a run, or a run directory (its latest checkpoint)"
    )
    parser.add_argument("output", type=Path, help="a new or empty folder")
    parser.add_class_arguments(ExportConfig, as_group=False)
    return parser


def export_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft export CHECKPOINT OUTPUT`."""
    parser = export_parser()
    values = parser.parse_args(arguments)
    found = export(values.checkpoint, values.output, ExportConfig(values.dtype, values.base))
    print(
        f"model{', adapters merged' if found.merged else ''}: {found.output} (its logits differ from the checkpoint's "
        f"by at most {found.difference:.2g} of {found.scale:.3g})"
    )
    return 0


def pretrain_parser() -> ArgumentParser:
    """Return the parser of `entrocraft pretrain`."""
    parser = ArgumentParser(prog="entrocraft pretrain", description="Make a testbed's base model from demonstrations.")
    parser.add_argument("--config", action="config", help="a YAML file, or the name of a preset")
    parser.add_class_arguments(PretrainConfig, as_group=False)
    return parser


def presets_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft presets`: the named settings of `train` and `pretrain`, with what they are for."""
    parser = ArgumentParser(
        prog="entrocraft presets",
        description="List the presets: settings by name, for --config. Several are layered, later ones on top; recipes "
        "(entrocraft methods) can be added in the same way.",
    )
    parser.parse_args(arguments)
    for command, folder in (("train", PRESETS), ("pretrain", PRETRAIN_PRESETS)):
        print(f"entrocraft {command} --config")
        for name, about in described_presets(folder).items():
            print(f"  {name:18} {about}")
    return 0


def pretrain_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft pretrain`."""
    parser = pretrain_parser()
    values = parser.instantiate(parser.parse_args(with_preset_paths(arguments, PRETRAIN_PRESETS, {})))
    config = PretrainConfig(**{name: values[name] for name in PretrainConfig.__dataclass_fields__})
    pretrain(config)
    print(f"base model: {config.output}")
    return 0
