"""The methods of a run, built from the configuration: below this file nothing knows the config."""

from dataclasses import asdict

from trainer.config import TrainConfig
from trainer.methods.assembly import assemble
from trainer.methods.pipeline import Algorithm
from trainer.methods.stages import Band, Schedule
from trainer.methods.table import build


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
    if "measured_change" in algorithm.needs and not config.theory.enabled:
        raise ValueError(
            f"algorithm.filter={chosen.filter!r} learns from the measured entropy change, which theory.enabled=false "
            "turns off. Set theory.enabled true, or give the filter its scale in algorithm.filter_options."
        )
    return algorithm


def needs_statistics(config: TrainConfig, algorithm: Algorithm) -> bool:
    """Return whether the sampler is to record what the per-token formulas need."""
    recorded = config.theory.enabled and config.theory.tabular
    return recorded or bool({"influence", "responsiveness"} & algorithm.needs)


def build_schedule(config: TrainConfig) -> Schedule:
    """Return the entropy schedule, in the unit of `band.unit`."""
    band = config.band
    options = {"start": tuple(band.start), "end": tuple(band.end), **band.options}
    return build("schedule", band.schedule, options, "band.schedule")


def band_at(schedule: Schedule, step: int, steps: int, unit: float) -> Band:
    """Return the band of a step in nats: the schedule at u = step / steps, in units of `unit` nats."""
    band = schedule(step / steps)
    return Band(band.low * unit, band.high * unit)
