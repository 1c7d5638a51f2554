"""The command `entrocraft evaluate`: which model, under which settings, and where the results go."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser

from trainer.checkpoint import last_whole_checkpoint
from trainer.config import ModelConfig, TrainConfig
from trainer.data import build_prompts, fit_prompts, with_chat
from trainer.environment import environment
from trainer.evaluate import Evaluation, evaluate_settings
from trainer.evaluation_settings import build_settings
from trainer.failures import is_out_of_memory
from trainer.files import write_json
from trainer.model import Policy, set_threads, with_lora
from trainer.parsing import as_config, config_parser, parse, plain, split_config
from trainer.parts import load_configured
from trainer.rewards import build_reward, check_rewards
from trainer.run_directory import MARKS

ADAPTER_FILE = "adapter_config.json"
UNITS = {"response_length": " tokens", "entropy": " nats/token at temperature 1"}


def evaluate_parser() -> ArgumentParser:
    """Return the parser of `entrocraft evaluate`; its `output` is a file."""
    parser = config_parser(
        skip={"output"},
        prog="entrocraft evaluate",
        description="Evaluate a model on held-out prompts. Takes the settings of `entrocraft train`; those of model, "
        "data, reward, evaluation and rollout.max_new_tokens matter. What lies in a run directory starts from the "
        "run's own config.yaml.",
    )
    parser.add_argument(
        "policy",
        help="a checkpoint, a run directory (its latest checkpoint), a model's folder, a hub id or a shipped model; a "
        "folder of adapters goes on top of the model they were made for",
    )
    parser.add_argument(
        "--output",
        type=Path | None,
        default=None,
        help="a new JSON file for the results; those so far are in FILE.unfinished",
    )
    return parser


def evaluate_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft evaluate CHECKPOINT`."""
    parser = evaluate_parser()
    own = parser.parse_args(without_configs(arguments))
    run = run_of(Path(own.policy))
    parsed = parse(parser, [*(["--config", str(run / "config.yaml")] if run else []), *arguments])
    del parsed["output"]
    config = as_config(parser, parsed)
    name = str(latest_checkpoint(run)) if run and run.samefile(own.policy) else own.policy
    if own.output is not None and own.output.exists():
        raise FileExistsError(f"--output={str(own.output)!r} must be a new file; got one that exists. Choose another.")
    results: list[Evaluation] = []
    for result in evaluate_model(config, name, in_run=run is not None):
        results.append(result)
        print(as_text(name, result), flush=True)
        if own.output is not None:
            save(unfinished(own.output), name, config, results)
    if not results:
        raise ValueError(
            f"evaluate({name!r}) must have held-out prompts; got none. "
            "Set data.held_out, and evaluation.prompts above 0."
        )
    if own.output is not None:
        unfinished(own.output).replace(own.output)
    return 0


def unfinished(file: Path) -> Path:
    """Return where results are until the last of them is there."""
    return file.with_name(f"{file.name}.unfinished")


def without_configs(arguments: Sequence[str]) -> list[str]:
    """Return command-line arguments without `--config` and its values, so that what is left was given by hand."""
    parts = [part for argument in arguments for part in split_config(argument)]
    return [part for before, part in zip(["", *parts], parts, strict=False) if "--config" not in (before, part)]


def run_of(path: Path) -> Path | None:
    """Return the run directory that a path is, or whose checkpoint it is; None for any other."""
    candidates = [path, path.resolve().parent.parent] if path.is_dir() else []
    return next((folder for folder in candidates if all((folder / mark).exists() for mark in MARKS)), None)


def latest_checkpoint(run: Path) -> Path:
    """Return the latest checkpoint of a run that is not damaged.

    Raises:
        FileNotFoundError: it has none.
        ValueError: all are damaged.
    """
    saved = last_whole_checkpoint(run / "checkpoints")
    if saved is None:
        raise FileNotFoundError(
            f"evaluate({str(run)!r}) must have a checkpoint; got a run without. Name a model instead."
        )
    return saved


def evaluate_model(config: TrainConfig, name: str, *, in_run: bool = False) -> Iterator[Evaluation]:
    """Yield the evaluations of a model as they finish.

    Args:
        config: the settings.
        name: a folder, a hub id or a shipped model.
        in_run: adapters belong on `model.path`; else on what their own folder names, unless `model.path` is set.

    Raises:
        FileNotFoundError: no such model.
        ValueError: a setting that cannot be used.
        MemoryError: more completions at once than fit.
    """
    build_settings(config.evaluation)
    prompts = build_prompts(config)
    with closing(build_reward(config)) as reward:
        try:
            policy = with_chat(load_any(config, name, in_run), config.data)
            set_threads(config.model.threads, policy)
            prompts = fit_prompts(policy, prompts, config, train=False)
            check_rewards(reward, prompts)
            yield from evaluate_settings(policy, prompts, reward, config)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"evaluate({name!r}) ran out of memory: {(str(error).splitlines() or ['no memory left'])[0]} "
                f"Lower evaluation.rows_at_once={config.evaluation.rows_at_once}, or set model.dtype: bfloat16."
            ) from error


def load_any(config: TrainConfig, name: str, in_run: bool) -> Policy:
    """Return the policy of this name; a folder of adapters with the model that they belong on."""
    model, folder = config.model, Path(name)
    is_adapter = (folder / ADAPTER_FILE).is_file()
    named = in_run or model.path != ModelConfig.path
    path = (model.path if named else adapted_model(folder)) if is_adapter else name
    policy = load_configured(path, model)
    if not is_adapter:
        return policy
    try:
        return with_lora(policy, rank=model.lora_rank, alpha=model.lora_alpha, seed=0, checkpoint=folder)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"evaluate({name!r}) must hold adapters of model.path={path!r}; got: {str(error).splitlines()[0]} "
            "Set model.path to the model that they were trained on."
        ) from error


def adapted_model(folder: Path) -> str:
    """Return the model that adapters were made for, as their folder names it."""
    base = json.loads((folder / ADAPTER_FILE).read_text()).get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"evaluate({str(folder)!r}) must name the model that its adapters belong on; got none in {ADAPTER_FILE}. "
            "Set model.path."
        )
    return str(base)


def as_text(name: str, result: Evaluation) -> str:
    """Return the table of one evaluation."""
    lines = [f"{name}, {result.key}: {len(result.correct)} prompts x {result.samples} samples"]
    for estimate, found in result.estimates.items():
        unit = f" (mean@{result.samples})" if estimate == "pass@1" else UNITS.get(estimate, "")
        lines.append(f"  {estimate:15} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]{unit}")
    return "\n".join(lines)


def save(file: Path, name: str, config: TrainConfig, results: Sequence[Evaluation]) -> None:
    """Write the results so far, and what they depended on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in plain(asdict(config)).items() if key != "output"}
    held = {"policy": name, "config": settings, "environment": environment(config)}
    write_json(file, {**held, "evaluations": [asdict(result) for result in results]})
