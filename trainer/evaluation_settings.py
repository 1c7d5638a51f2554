"""The sampling settings of held-out evaluation: those built in, and the user's own."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from trainer.config import EVALUATION_SETTINGS, EvaluationConfig, TrainConfig
from trainer.methods.lookup import nearest
from trainer.sampling import Sampling


@dataclass(frozen=True)
class Setting:
    """How the completions of an evaluation are sampled.

    Args:
        name: what the results are called by.
        sampling: how tokens are drawn.
        samples: completions a prompt.
        pass_at: the k of pass@k and, above 1, of maj@k; 1 is among them.
    """

    name: str
    sampling: Sampling
    samples: int
    pass_at: tuple[int, ...]


def build_settings(config: EvaluationConfig) -> tuple[Setting, ...]:
    """Return the settings that the configuration names; one that takes the likeliest token draws one sample a prompt.

    Raises:
        ValueError: a setting of the user's own with a value outside its range, or with the name of a built-in one.
    """
    taken = sorted(EVALUATION_SETTINGS.keys() & config.sampling.keys())
    if taken:
        raise ValueError(
            f"evaluation.sampling must use names of its own; got {taken}, which are built in. Rename them."
        )
    known = {name: Sampling(*values) for name, values in EVALUATION_SETTINGS.items()}
    known |= {name: own_sampling(name, values) for name, values in config.sampling.items()}
    settings = []
    for name in dict.fromkeys(config.settings):
        samples = 1 if known[name].top_k == 1 else config.samples
        wanted = config.pass_at or tuple(2**power for power in range(samples.bit_length()))
        settings.append(Setting(name, known[name], samples, tuple(sorted({1, *(k for k in wanted if k <= samples)}))))
    return tuple(settings)


def evaluation_keys(config: TrainConfig) -> list[str]:
    """Return what the evaluations of a run are called: settings, or `set/setting` where held-out sets have names."""
    return [
        evaluation_key(config, held_out, name) for held_out in named_sets(config) for name in config.evaluation.settings
    ]


def evaluation_key(config: TrainConfig, held_out: str, setting: str) -> str:
    """Return what the evaluation of a held-out set in a setting is called."""
    return f"{held_out}/{setting}" if held_out in named_sets(config) and held_out else setting


def named_sets(config: TrainConfig) -> list[str]:
    """Return the names of the held-out sets, "" for one that the configuration does not name."""
    held_out = config.data.held_out
    return list(held_out) if config.data.prompts is not None and isinstance(held_out, dict) else [""]


def own_sampling(name: str, values: Mapping[str, float]) -> Sampling:
    """Return the sampling that a user's values describe; what is absent has its default."""
    where = f"evaluation.sampling.{name}"
    options = [field.name for field in fields(Sampling)]
    for option, value in values.items():
        if option not in options:
            raise ValueError(f"{where} must be of {options}; got {option!r}. {nearest(option, options)}")
        if option == "top_k" and not float(value).is_integer():
            raise ValueError(f"{where}.top_k={value} must be a whole number.")
    try:
        return Sampling(values.get("temperature", 1.0), values.get("top_p", 1.0), int(values.get("top_k", 0)))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
