"""The commands `entrocraft train`, `entrocraft evaluate` and `entrocraft pretrain`."""

from collections.abc import Sequence
from dataclasses import replace

from jsonargparse import ArgumentParser

from trainer.evaluate import evaluate_checkpoint
from trainer.parsing import as_config, config_parser, parse
from trainer.pretrain import PretrainConfig, pretrain
from trainer.train import train


def train_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft train`."""
    parser = config_parser(prog="entrocraft train", description="Train a causal language model with entropy control.")
    result = train(as_config(parser, parse(parser, arguments)))
    print(f"finished: {result.path / 'summary.json'}")
    return 0


def evaluate_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft evaluate CHECKPOINT`."""
    parser = config_parser(
        prog="entrocraft evaluate",
        description="Evaluate a model on held-out prompts. Takes the settings of `entrocraft train`; those of "
        "evaluation, data, reward and rollout.max_new_tokens matter.",
    )
    parser.add_argument("policy", help="a folder, a hub id or a shipped model")
    parsed = parse(parser, arguments)
    config = as_config(parser, parsed)
    config = replace(config, model=replace(config.model, path=parsed.policy))
    for result in evaluate_checkpoint(config):
        print(f"{parsed.policy}, {result.setting}: {len(result.correct)} prompts x {result.samples} samples")
        for name, estimate in result.estimates.items():
            print(f"  {name:10} {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]")
        print(f"  {'entropy':10} {result.entropy:.3f} nats/token at temperature 1")
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
