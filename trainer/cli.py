"""The commands `entrocraft train` and `entrocraft pretrain`."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from trainer.parsing import as_config, config_parser, parse
from trainer.pretrain import PretrainConfig, pretrain
from trainer.train import train


def train_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft train`."""
    parser = config_parser(prog="entrocraft train", description="Train a causal language model with entropy control.")
    result = train(as_config(parser, parse(parser, arguments)))
    print(f"finished: {result.path / 'summary.json'}")
    return 0


def pretrain_parser() -> ArgumentParser:
    """Return the parser of `entrocraft pretrain`."""
    parser = ArgumentParser(prog="entrocraft pretrain", description="Make a testbed's base model from demonstrations.")
    parser.add_argument("--config", action="config", help="a YAML file")
    parser.add_class_arguments(PretrainConfig, as_group=False)
    return parser


def pretrain_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft pretrain`."""
    parser = pretrain_parser()
    values = parser.instantiate(parser.parse_args(arguments))
    config = PretrainConfig(**{name: values[name] for name in PretrainConfig.__dataclass_fields__})
    pretrain(config)
    print(f"base model: {config.output}")
    return 0
