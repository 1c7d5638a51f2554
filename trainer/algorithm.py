"""The methods of a run, built from the configuration: below this file nothing knows the config."""

from dataclasses import dataclass

from trainer.config import TrainConfig
from trainer.methods.advantages import GRPO, check_group_size
from trainer.methods.losses import EntropyBonus, KLPenalty
from trainer.methods.stages import (
    AdvantageEstimator,
    Band,
    ClipRule,
    Controller,
    Denominator,
    LossTerm,
    Schedule,
    TokenWeight,
)
from trainer.methods.table import ADVANTAGES, CLIPS, DENOMINATORS, SCHEDULES, TOKEN_WEIGHTS, build, build_controller


@dataclass(frozen=True)
class Algorithm:
    """One method for each stage.

    Args:
        advantage: rewards to advantages.
        controller: the rollout filter, with its state.
        token_weight: a weight for each token's objective, or None.
        clip: the surrogate objective.
        terms: further loss terms.
        denominator: what the sum over tokens is divided by.
    """

    advantage: AdvantageEstimator
    controller: Controller
    token_weight: TokenWeight | None
    clip: ClipRule
    terms: tuple[LossTerm, ...]
    denominator: Denominator


def build_algorithm(config: TrainConfig) -> Algorithm:
    """Return the methods that the configuration names.

    Raises:
        ValueError: an unknown method or option, or GRPO with a group of one.
    """
    chosen = config.algorithm
    advantage = build("algorithm.advantage", chosen.advantage, ADVANTAGES, chosen.advantage_options)
    if isinstance(advantage, GRPO):
        check_group_size(config.rollout.group_size)
    terms: list[LossTerm] = []
    if chosen.kl:
        terms.append(KLPenalty(chosen.kl))
    if chosen.entropy_bonus:
        terms.append(EntropyBonus(chosen.entropy_bonus))
    weight = None
    if chosen.token_weight is not None:
        weight = build("algorithm.token_weight", chosen.token_weight, TOKEN_WEIGHTS, chosen.token_weight_options)
    return Algorithm(
        advantage=advantage,
        controller=build_controller(chosen.filter, chosen.filter_options),
        token_weight=weight,
        clip=build("algorithm.clip", chosen.clip, CLIPS, chosen.clip_options),
        terms=tuple(terms),
        denominator=build("algorithm.denominator", chosen.denominator, DENOMINATORS),
    )


def build_schedule(config: TrainConfig) -> Schedule:
    """Return the entropy schedule, in the unit of `band.unit`."""
    band = config.band
    return build("band.schedule", band.schedule, SCHEDULES, {"start": tuple(band.start), "end": tuple(band.end)})


def band_at(schedule: Schedule, step: int, steps: int, unit: float) -> Band:
    """Return the band of a step in nats: the schedule at u = step / steps, in units of `unit` nats."""
    band = schedule(step / steps)
    return Band(band.low * unit, band.high * unit)
