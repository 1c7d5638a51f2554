"""Rollout engines: what decodes completions, built in or of the user's own."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from trainer.config import RolloutConfig
from trainer.methods.lookup import import_object, instantiate, nearest
from trainer.model import Policy
from trainer.rollout import Rollouts
from trainer.sampling import Sampling, sample
from trainer.streams import TokenUniforms


@runtime_checkable
class Engine(Protocol):
    """Returns G completions of each prompt: a function of this signature, or a class without arguments to build.

    It is called once a step with the policy as it is then (one that decodes elsewhere sends the weights first), and in
    evaluation. Row b of what it returns is sample b % G of prompt b // G, in the form that `Rollouts` describes:
    `log_prob` and `entropy` are those of softmax(logits / temperature) before truncation, in nats, and must be
    recorded; `entropy_t1` at temperature 1; influence, curvature and responsiveness only when `statistics` asks, else
    zeros. What it cannot do, such as `stop`, it should refuse with a ValueError.

    The draws of the built-in engine depend on (generator, prompt index, sample index, position) alone, so that runs can
    be compared and resumed; an engine with a generator of its own gives that up.

    Args:
        policy: what to sample from.
        prompts: token ids of P prompts.
        group_size: G.
        max_new_tokens: after which a completion is cut.
        sampling: temperature and truncation.
        generator: source of the uniforms.
        prompt_index: what addresses each prompt's draws; 0..P-1 by default.
        statistics: also record influence, curvature and responsiveness.
        temperatures: also record log-probabilities at these temperatures, as `Rollouts.tempered`.
        stop: texts that end a completion, which they belong to.
        slots: completions decoded at once; 0 for all.
    """

    def __call__(
        self,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        max_new_tokens: int,
        sampling: Sampling = ...,
        *,
        generator: TokenUniforms,
        prompt_index: Sequence[int] | None = None,
        statistics: bool = False,
        temperatures: Sequence[float] = (),
        stop: Sequence[str] = (),
        slots: int = 0,
    ) -> Rollouts:
        """Return P * G completions."""


ENGINES: dict[str, Engine] = {"cache": sample}


def build_engine(config: RolloutConfig) -> Engine:
    """Return the engine that `rollout.engine` names: built in, or `module:name`.

    Raises:
        ValueError: no such engine, or one that cannot be called.
        ImportError: no such module, or no such name in it.
    """
    name = config.engine
    if ":" not in name:
        if name not in ENGINES:
            raise ValueError(
                f"rollout.engine={name!r} must be one of {sorted(ENGINES)}, or module:name of your own. "
                f"{nearest(name, ENGINES)}".rstrip()
            )
        return ENGINES[name]
    engine = instantiate("rollout.engine", name, import_object("rollout.engine", name), {})
    if not callable(engine):
        raise ValueError(
            f"rollout.engine={name!r} must name a function, or a class whose instances can be called; got "
            f"{type(engine).__name__}. trainer/engine.py has the signature."
        )
    return engine
