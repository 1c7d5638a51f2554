"""The experiments, one file each, one claim each."""

from simulations.experiment import Experiment
from simulations.experiments import (
    attribution,
    authority,
    collapse,
    controllers,
    drift,
    one_sided,
    scaling,
    schedules,
    sign_rule,
    slopes,
)

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        attribution,
        authority,
        collapse,
        controllers,
        drift,
        one_sided,
        scaling,
        schedules,
        sign_rule,
        slopes,
    )
}
