"""The methods of a run, built from the configuration: below this file nothing knows the config."""

import inspect
import math
from dataclasses import asdict

from trainer.config import TrainConfig
from trainer.methods.assembly import assemble
from trainer.methods.lookup import instantiate
from trainer.methods.pipeline import Algorithm
from trainer.methods.schedules import WarmStart
from trainer.methods.stages import Band, Schedule
from trainer.methods.table import named


def build_algorithm(config: TrainConfig) -> Algorithm:
    """Return the methods that the configuration names.

    Raises:
        ValueError: an unknown method or option, GRPO with a group of one, or methods that do not go together.
    """
    chosen = config.algorithm
    settings = asdict(chosen)
    for name in ("kl", "kl_estimator", "entropy_bonus", "mini_batches", "epochs"):
        del settings[name]
    terms = dict(settings["terms"])
    if chosen.kl:
        terms["kl"] = {"coefficient": chosen.kl, "estimator": chosen.kl_estimator}
    if chosen.entropy_bonus:
        terms["entropy_bonus"] = {"coefficient": chosen.entropy_bonus}
    algorithm = assemble(
        {**settings, "terms": terms},
        group_size=config.rollout.group_size,
        updates=chosen.mini_batches * chosen.epochs,
    )
    if "direction" in algorithm.needs and config.model.weights == "bfloat16" and not config.model.lora_rank:
        raise ValueError(
            "algorithm.filter_options.influence='directional' must have trained weights in float32: the small move "
            "that it tries would be rounded away; got model.weights='bfloat16'. Set model.weights float32, "
            "model.lora_rank, or influence: tabular."
        )
    return algorithm


def needs_statistics(config: TrainConfig, algorithm: Algorithm) -> bool:
    """Return whether the sampler is to record what the per-token formulas need."""
    recorded = config.theory.enabled and config.theory.tabular
    return recorded or bool({"influence", "responsiveness"} & algorithm.needs)


def build_schedule(config: TrainConfig) -> Schedule:
    """Return the entropy schedule, in the unit of `band.unit`.

    Raises:
        ValueError: an unknown schedule or option, or a step whose band is not finite, negative or upside down.
    """
    band = config.band
    method = named("schedule", band.schedule, "band.schedule")
    ends = {"start": tuple(band.start), "end": tuple(band.end)}
    taken = inspect.signature(method).parameters if isinstance(method, type) else {}
    options = {**{name: value for name, value in ends.items() if name in taken}, **band.options}
    schedule: Schedule = instantiate("band.schedule", band.schedule, method, options, "band.options")
    for step in range(config.steps):
        found = schedule(step / config.steps)
        if not 0 <= found.low <= found.high < math.inf:
            raise ValueError(
                f"band.schedule={band.schedule!r} must give finite bands with 0 <= low <= high; got {found} at step "
                f"{step} of {config.steps}. Mend the schedule or band.options."
            )
    return schedule


def band_at(schedule: Schedule, step: int, steps: int, unit: float) -> Band:
    """Return the band of a step in nats: the schedule at u = step / steps, in units of `unit` nats."""
    band = schedule(step / steps)
    return Band(band.low * unit, band.high * unit)


def band_of_run(config: TrainConfig, schedule: Schedule, step: int, first_entropy: float) -> Band:
    """Return the band of a step of a run, nats: joined from the entropy of its first batch, or relative to it.

    Args:
        config: the run's.
        schedule: as `build_schedule` returns it.
        step: from 0.
        first_entropy: of the run's first batch, nats per token.
    """
    relative, warm_start = config.band.unit == "relative", config.band.warm_start
    if warm_start:
        schedule = WarmStart(schedule, 1.0 if relative else first_entropy, warm_start)
    return band_at(schedule, step, config.steps, first_entropy if relative else 1.0)


def unreachable(schedule: Schedule, steps: int, unit: float, vocabulary: int) -> str | None:
    """Return a line that says where the band lies above log V, which no entropy reaches; None where it never does.

    >>> unreachable(lambda progress: Band(0.9, 1.0), steps=10, unit=1.0, vocabulary=2)
    'the band lies above log V = 0.693 nats, which no entropy reaches, in 10 of 10 steps, first at step 0: it is never \
met there. Lower the band, or set band.unit.'
    """
    most = math.log(vocabulary)
    above = [step for step in range(steps) if band_at(schedule, step, steps, unit).low > most]
    if not above:
        return None
    return (
        f"the band lies above log V = {most:.3g} nats, which no entropy reaches, in {len(above)} of {steps} steps, "
        f"first at step {above[0]}: it is never met there. Lower the band, or set band.unit."
    )
