"""Every built-in reward by name, and a run's rewards from its configuration."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from trainer.config import TrainConfig
from trainer.data import PromptSource, build_task
from trainer.methods.lookup import import_object, instantiate, nearest
from trainer.methods.stages import RewardFunction
from trainer.rewards.answers import GSM8K, exact_match
from trainer.rewards.boxed_math import BoxedMath
from trainer.rewards.scoring import Part, Rewards
from trainer.rewards.shape import Format, Overlong
from trainer.tasks.countdown import Countdown

# What may stand in `reward.function`: a function, or a class whose fields are its `reward.options`.
BUILTIN: dict[str, Any] = {
    "countdown": Countdown().reward,
    "exact_match": exact_match,
    "gsm8k": GSM8K,
    "boxed_math": BoxedMath,
    "format": Format,
    "overlong": Overlong,
}


def build_reward(config: TrainConfig) -> Rewards:
    """Return the rewards that the configuration names, or the task's verifier.

    Raises:
        ValueError: an unknown name or option, options of a reward that is not named, a weight that is not finite, a
            first reward that cannot judge, or no reward for prompts from a file.
        ImportError: a function of the user's own, or a package that a built-in needs, that cannot be imported.
    """
    named = config.reward.function
    if named is None:
        if config.data.prompts is not None:
            raise ValueError(
                "reward.function must name a reward when prompts come from a file; got null. "
                f"Set it to one of {sorted(BUILTIN)}, or to module:function of your own."
            )
        weights: Mapping[str, float] = {}
    else:
        weights = {named: 1.0} if isinstance(named, str) else named
    unused = sorted(config.reward.options.keys() - weights.keys())
    if unused:
        raise ValueError(
            f"reward.options must be for the rewards in use, {list(weights)}; got options for {unused[0]!r}. "
            f"{nearest(unused[0], weights)}Name it in reward.function, or leave its options out."
        )
    if named is None:
        return Rewards((Part(config.data.task, build_task(config.data.task).reward),))
    parts = [Part(name, find(name, config), checked_weight(name, weight)) for name, weight in weights.items()]
    if isinstance(parts[0].function, Overlong):
        raise ValueError(
            "reward.function must name first the reward that says whether a completion is right, which evaluation "
            "counts; got overlong, which never does. Put another before it."
        )
    return Rewards(tuple(parts))


def find(name: str, config: TrainConfig) -> RewardFunction:
    """Return the reward of a name, built with its options where it is a class."""
    if ":" in name:
        reward = import_object("reward.function", name)
    elif name in BUILTIN:
        reward = BUILTIN[name]
    else:
        raise ValueError(
            f"reward.function={name!r} must be one of {sorted(BUILTIN)} or module:name of your own; got neither. "
            f"{nearest(name, BUILTIN)}"
        )
    options = dict(config.reward.options.get(name, {}))
    if reward is BoxedMath:
        options.setdefault("timeout_s", config.reward.timeout_s)
    built = instantiate("reward.function", name, reward, options, options_key=f"reward.options.{name}")
    if not callable(built):
        raise ValueError(
            f"reward.function={name!r} must be callable; got {built!r}. Name a function with TRL's reward signature."
        )
    return built


def checked_weight(name: str, weight: float) -> float:
    """Return a weight that is finite."""
    if not math.isfinite(weight):
        raise ValueError(f"reward.function={{{name}: {weight}}} must have finite weights. Give it another.")
    return weight


def check_rewards(rewards: Rewards, prompts: PromptSource) -> None:
    """Refuse, before a run starts, prompts that its rewards cannot be called with.

    Every reward is called in training, the first alone on held-out prompts.

    Raises:
        ValueError: prompts without a column that a function requires, or with one that it does not take, or an answer
            that a built-in reward cannot read.
    """
    for row in prompts.train_rows(0, 1):
        for part in rewards.parts:
            check_columns(part, row)
    for name in prompts.held_out_sets:
        for row in prompts.held_out_rows(name, 1):
            check_columns(rewards.judge, row)
    for part in rewards.parts:
        if isinstance(part.function, GSM8K):
            part.function.check(prompts.rows_to_check())


def check_columns(part: Part, row: Mapping[str, Any]) -> None:
    """Refuse a row whose columns do not fit a function's signature."""
    columns = [name for name in row if name != "prompt"]
    try:
        parameters = inspect.signature(part.function).parameters
    except (TypeError, ValueError):
        # Some callables written in C do not tell their signature.
        return
    given = {"prompts", "completions", "completion_ids", *columns}
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        surplus = sorted(given - parameters.keys())
        if surplus:
            raise ValueError(
                f"reward {part.name} must take every column of the prompts; got {surplus[0]!r}, which it has no "
                "parameter for. Let it end in **columns."
            )
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.kind not in variadic and parameter.default is inspect.Parameter.empty and name not in given
    ]
    if missing:
        raise ValueError(
            f"reward {part.name} needs column {missing[0]!r}; the prompts have {columns}. "
            "Add it to the prompts, or name the column that holds it in data.columns."
        )
