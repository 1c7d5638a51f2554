"""Algorithm 1, its released variant and three predictive controllers at a constant target."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from simulations.experiment import Cell, Experiment, Panel, Rows, mean_and_interval
from simulations.loop import Setting, Simulation
from simulations.policies import Table
from simulations.problems import bandit
from trainer.methods.assembly import assemble
from trainer.methods.recipes import RECIPES
from trainer.methods.schedules import Constant

PREDICTIVE = ("rejection", "soft", "solved_bonus")
NAMES = ("grpo", "algorithm1", "released", *PREDICTIVE)


@dataclass(frozen=True)
class Options:
    """Sizes of the bandits, which are those of theory.md's reference.

    Args:
        seed: of first parameters and draws.
        repeats: runs of each controller.
        policies: independent bandits of a run; entropy is their mean.
        arms: of a bandit.
        correct: arms with reward 1.
        group_size: G, samples a bandit and step.
        learning_rate: of one bandit's logits per unit of its mean gradient.
        steps: of a run.
        target: the wanted entropy, nats; the band is target +- 0.05.
        learnt_scale: let the controllers learn the scale of their prediction, as they must in a network.
    """

    seed: int = 0
    repeats: int = 3
    policies: int = 256
    arms: int = 20
    correct: int = 5
    group_size: int = 8
    learning_rate: float = 0.1
    steps: int = 601
    target: float = 1.2
    learnt_scale: bool = False


def cells(options: Options) -> list[Cell]:
    """Return a cell a controller."""
    return [Cell(name, partial(run, name, options)) for name in NAMES]


def run(name: str, options: Options) -> Rows:
    """Run one controller."""
    # All divide by G, as the reference does: Algorithm 1 over the kept rollouts falls faster.
    settings: dict[str, Any] = {**RECIPES[name].settings, "denominator": "zero"}
    if name in PREDICTIVE and not options.learnt_scale:
        # The loss is a mean over all rollouts, and every bandit owns its logits: a rollout moves them by the rate of
        # its own mean gradient over G, and the mean entropy by a P-th of that, which is what a token's share is.
        exact = {"gain": options.learning_rate, "fraction": 1.0, "smoothing": 0.0, "memory": 0.0, "integral": 0.0}
        settings["filter_options"] = {**exact, **({"rule": "fewest", "side": "below"} if name == "rejection" else {})}
    convention = 2.0 if RECIPES[name].reward == "signed" else 1.0
    problem = bandit(options.policies, options.arms, correct=options.correct)
    if convention == 2.0:
        problem = problem.signed()
    setting = Setting(
        policy=Table(options.policies, options.arms, scale=1.0),
        problem=problem,
        algorithm=assemble(settings, group_size=options.group_size),
        steps=options.steps,
        learning_rate=options.learning_rate * options.policies,
        group_size=options.group_size,
        schedule=Constant((options.target - 0.05, options.target + 0.05), (0.0, 0.0)),
    )
    rows = []
    for step in Simulation(setting, options.repeats, seed=options.seed):
        assert step.exact_entropy is not None
        assert step.expected_reward is not None
        reward = step.expected_reward if convention == 1.0 else (step.expected_reward + 1) / 2
        for repeat in range(options.repeats):
            rows.append(
                {
                    "controller": name,
                    "repeat": repeat,
                    "step": step.step,
                    "target": options.target,
                    "entropy": float(step.exact_entropy[repeat]),
                    "reward": float(reward[repeat]),
                    "accepted": float(step.accepted[repeat]),
                }
            )
    return rows


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the curves, and each controller's error, reward and use of samples over the last half."""
    curves = mean_and_interval(rows, ["controller", "step", "target"], "entropy")
    rewards = mean_and_interval(rows, ["controller", "step"], "reward")
    late = rows[rows.step >= rows.step.max() / 2].assign(gap=lambda frame: (frame.entropy - frame.target).abs())
    late = late.assign(square=late.gap**2, inside=late.gap <= 0.05)
    summary = late.groupby(["controller", "repeat"], sort=False)[["square", "inside", "accepted"]].mean().reset_index()
    last = rows[rows.step == rows.step.max()][["controller", "repeat", "entropy", "reward"]]
    summary = summary.assign(rmse=summary.square**0.5).merge(last, on=["controller", "repeat"])
    columns = ["entropy", "reward", "rmse", "inside", "accepted"]
    means = summary.groupby("controller", sort=False)[columns].agg(["mean", "std"])
    means.columns = [f"{name}_sd" if part == "std" else name for name, part in means.columns]
    return {"curves": curves, "rewards": rewards, "summary": means.reset_index()}


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return each controller's numbers."""
    curves = found["curves"].set_index(["controller", "step"])["entropy"]
    last = int(found["curves"].step.max())
    places = [step for step in (200, 400, last) if step <= last]
    lines = []
    for row in found["summary"].itertuples():
        at = " / ".join(f"{curves[(str(row.controller), step)]:.3f}" for step in places)
        lines.append(
            f"{row.controller}: entropy {at} at steps {places}, reward {row.reward:.3f} +- {row.reward_sd:.3f}, RMSE "
            f"{row.rmse:.3f}, in band {row.inside:.0%}, {row.accepted:.0%} of samples used."
        )
    return lines


EXPERIMENT = Experiment(
    name="controllers",
    claim="Algorithm 1 passes through a constant target; predictive controllers hold it, at different cost in reward.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        Panel(
            "Entropy at a constant target",
            "curves",
            "step",
            "entropy",
            by="controller",
            low="low",
            high="high",
            y_label="entropy (nats)",
            reference=("target",),
        ),
        Panel("Expected reward", "rewards", "step", "reward", by="controller", low="low", high="high"),
        Panel(
            "RMSE over the last half", "summary", "controller", "rmse", kind="bar", y_label="RMSE (nats)", y_log=True
        ),
        Panel("Reward at the end", "summary", "controller", "reward", kind="bar"),
    ),
)
