"""An algorithm from settings by name: the same settings in configurations, recipes and simulations."""

from collections.abc import Mapping
from typing import Any

from trainer.methods.advantages import GRPO, check_group_size
from trainer.methods.combinations import check_combination
from trainer.methods.lookup import nearest
from trainer.methods.pipeline import Algorithm
from trainer.methods.table import build

DEFAULTS: dict[str, Any] = {
    "advantage": "grpo",
    "shaping": None,
    "filter": "none",
    "token_weight": None,
    "clip": "ppo",
    "terms": {},
    "denominator": "drop",
}
OPTIONS = {f"{slot}_options" for slot in DEFAULTS if slot != "terms"}


def assemble(settings: Mapping[str, Any], *, group_size: int | None = None, updates: int | None = None) -> Algorithm:
    """Return the algorithm of settings such as {"advantage": "rloo", "clip_options": {"high": 0.28}}.

    Args:
        settings: a name for each slot of `DEFAULTS`, hyper-parameters under the slot's name and `_options`, and
            `terms`, a mapping from a loss term's name to its hyper-parameters. What is absent has its default.
        group_size: G, to refuse what it does not allow; None where it is not known yet.
        updates: optimiser steps a batch, mini-batches times epochs; likewise.

    Raises:
        ValueError: an unknown slot, method or option, or methods that do not go together.

    >>> assemble({"advantage": "reinforce", "terms": {"entropy_bonus": {"coefficient": 0.01}}}).needs
    frozenset({'entropy_gradient'})
    """
    known = [*DEFAULTS, *sorted(OPTIONS)]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise ValueError(
            f"assemble(settings) must have slots of {known}; got {unknown[0]!r}. {nearest(unknown[0], known)}"
        )
    chosen = {**DEFAULTS, **settings}
    check_combination(chosen, group_size=group_size, updates=updates)

    def slot(stage: str) -> Any:
        return build(stage, chosen[stage], chosen.get(f"{stage}_options"))

    def optional(stage: str) -> Any:
        return None if chosen[stage] is None else slot(stage)

    advantage = slot("advantage")
    if isinstance(advantage, GRPO) and group_size is not None:
        check_group_size(group_size)
    return Algorithm.of(
        advantage,
        shaping=optional("shaping"),
        filter=slot("filter"),
        token_weight=optional("token_weight"),
        clip=slot("clip"),
        terms=[build("terms", name, options) for name, options in chosen["terms"].items()],
        denominator=slot("denominator"),
    )
