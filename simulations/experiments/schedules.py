"""Which control follows which schedule, how fast it reacts to a jump, and what it costs in reward."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from simulations.exact import tree_of
from simulations.experiment import Cell, Experiment, Panel, Rows, mean_and_interval
from simulations.loop import Setting, Simulation, Step
from simulations.optimizers import SGD, Adam, Optimizer
from simulations.policies import MLP, Parameters, Policy, Table
from simulations.problems import Problem, bandit
from simulations.summaries import each, mean_error, text
from trainer.methods.assembly import assemble
from trainer.methods.recipes import RECIPES
from trainer.methods.schedules import Constant, Cosine, Linear, SquareWave
from trainer.methods.stages import Schedule

HALF_WIDTH = 0.05  # of the band, nats
PREDICTIVE = ("rejection", "soft", "solved_bonus")
LEARNT = tuple(f"{name}_learnt" for name in PREDICTIVE)
DIRECTIONAL = tuple(f"{name}_directional" for name in PREDICTIVE)  # for the network; they learn their gain too
# Where a recipe's target, a constant, is set.
TARGETED = {
    "entropic_paper": "shaping_options",
    "positive_reweighting": "shaping_options",
    "repo_r": "token_weight_options",
    "aec": "terms",
}
OTHERS = ("grpo", "clip_higher", "algorithm1", "released", *TARGETED, "fixed_bonus")
SCHEDULES = ("constant", "linear", "cosine", "square", "natural")
OPTIMIZERS: dict[str, Optimizer] = {"table": SGD(), "mlp": Adam()}
FIXED, NATURAL = "fixed_bonus", "natural"


@dataclass(frozen=True)
class Options:
    """Sizes.

    Args:
        seed: of first parameters and draws.
        repeats: runs of each controller.
        prompts: P.
        arms: of a bandit.
        correct: arms with reward 1.
        features: of a prompt, for the network.
        hidden: units of the network.
        group_size: G.
        learning_rate: of a table's logits per unit of their mean gradient and pass over a batch.
        adam_rate: of the network, with Adam.
        epochs: passes over a batch, so that ratios move.
        scale: standard deviation of the first logits.
        warm_up: steps of plain GRPO that make the policy all controllers start from.
        steps: of a run.
        every: steps between the points of a curve.
        policies: to run; the network has the constant target and the square wave alone.
        schedules: to run.
    """

    seed: int = 0
    repeats: int = 4
    prompts: int = 32
    arms: int = 20
    correct: int = 5
    features: int = 8
    hidden: int = 32
    group_size: int = 8
    learning_rate: float = 0.1
    adam_rate: float = 0.003
    epochs: int = 2
    scale: float = 2.0
    warm_up: int = 30
    steps: int = 160
    every: int = 4
    policies: tuple[str, ...] = ("table", "mlp")
    schedules: tuple[str, ...] = SCHEDULES


def cells(options: Options) -> list[Cell]:
    """Return a cell a policy, schedule and controller; gains are learnt in the network, and in the table on two."""
    found = []
    for policy in options.policies:
        for schedule in options.schedules:
            hard = schedule in ("constant", "square")
            if policy == "mlp" and not hard:
                continue
            given = PREDICTIVE if policy == "table" else DIRECTIONAL
            for name in (*OTHERS, *given, *(LEARNT if hard else ())):
                found.append(Cell(f"{policy}_{schedule}_{name}", partial(run, name, policy, schedule, options)))
    return found


@lru_cache(maxsize=4)
def start(policy_name: str, options: Options) -> tuple[Policy, Problem, Parameters, float]:
    """Return policy, problem, the parameters that plain GRPO makes of the first ones, and their entropy."""
    drawn = torch.Generator().manual_seed(int(np.random.SeedSequence([options.seed, 2]).generate_state(1)[0]))
    problem = bandit(options.prompts, options.arms, options.correct, generator=drawn)
    policy: Policy = Table(options.prompts, options.arms, scale=options.scale)
    if policy_name == "mlp":
        features = torch.randn(options.prompts, options.features, generator=drawn, dtype=torch.float64)
        policy = MLP(features / options.features**0.5, options.arms, options.hidden, scale=options.scale)
    setting = setting_of(policy_name, policy, problem, {}, Constant((0.0, 0.0), (0.0, 0.0)), options)
    simulation = Simulation(setting, options.repeats, seed=options.seed)
    for _ in range(options.warm_up):
        simulation.advance()
    parameters = simulation.state.parameters
    return policy, problem, parameters, float(tree_of(policy, parameters).entropy().mean())


def setting_of(
    policy_name: str,
    policy: Policy,
    problem: Problem,
    settings: Mapping[str, Any],
    schedule: Schedule,
    options: Options,
) -> Setting:
    """Return the setting of an algorithm on a schedule."""
    rate = options.learning_rate * policy.prompts if policy_name == "table" else options.adam_rate
    return Setting(
        policy=policy,
        problem=problem,
        algorithm=assemble(settings, group_size=options.group_size, updates=options.epochs),
        steps=options.steps,
        learning_rate=rate,
        optimizer=OPTIMIZERS[policy_name],
        group_size=options.group_size,
        epochs=options.epochs,
        schedule=schedule,
    )


def steps_of(
    policy_name: str, settings: Mapping[str, Any], schedule: Schedule, options: Options, signed: bool = False
) -> Iterator[Step]:
    """Yield the steps of a run from the common policy."""
    policy, problem, parameters, _ = start(policy_name, options)
    setting = setting_of(policy_name, policy, problem.signed() if signed else problem, settings, schedule, options)
    simulation = Simulation(setting, options.repeats, seed=options.seed + 1)
    first = setting.optimizer.start(parameters)
    simulation.state = replace(simulation.state, parameters=parameters, moments=first)
    simulation.reference = parameters
    yield from simulation


@lru_cache(maxsize=8)
def schedule_of(name: str, policy_name: str, options: Options) -> Schedule:
    """Return a schedule in units of the entropy h at the start: at h; from h to h/3; or between h and 0.7 h.

    The natural one is the straight line nearest to GRPO's own curve after the first tenth of the run.
    """
    entropy = start(policy_name, options)[3]
    if name == NATURAL:
        return Linear(*(band(centre) for centre in natural_line(policy_name, options)))
    if name == "constant":
        return Constant(band(entropy), band(entropy))
    if name == "square":
        return SquareWave(band(entropy), band(0.7 * entropy))
    falling = band(entropy), band(entropy / 3)
    return Linear(*falling) if name == "linear" else Cosine(*falling)


def band(centre: float) -> tuple[float, float]:
    """Return the band about a centre."""
    return (max(0.0, centre - HALF_WIDTH), max(0.0, centre - HALF_WIDTH) + 2 * HALF_WIDTH)


def natural_line(policy_name: str, options: Options) -> tuple[float, float]:
    """Return where the line nearest to GRPO's mean curve begins and ends."""
    unused = Constant((0.0, 0.0), (0.0, 0.0))
    curve = np.array([float(exact(step).mean()) for step in steps_of(policy_name, {}, unused, options)])
    progress = np.arange(len(curve)) / len(curve)
    kept = progress >= 0.1
    slope, first = np.polyfit(progress[kept], curve[kept], 1)
    return float(first), float(first + slope)


def exact(step: Step) -> Float[Tensor, "R"]:
    """Return the exact entropy."""
    assert step.exact_entropy is not None
    return step.exact_entropy


def settings_of(name: str, policy_name: str, schedule_name: str, options: Options) -> dict[str, Any]:
    """Return a controller's settings; a constant target is the mean of the schedule's."""
    if name == FIXED:
        return {"terms": {"entropy_bonus": {"coefficient": mean_bonus(policy_name, schedule_name, options)}}}
    recipe, learnt = name.removesuffix("_learnt"), name.endswith("_learnt")
    settings = dict(RECIPES[recipe].settings)
    if recipe in PREDICTIVE and not learnt:
        # Each of the passes moves a rollout's own logits by the rate of its mean gradient over G.
        gain = options.learning_rate * options.epochs
        settings["filter_options"] = {"gain": gain, "fraction": 1.0, "smoothing": 0.0, "memory": 0.0, "integral": 0.0}
    if recipe in TARGETED:
        schedule = schedule_of(schedule_name, policy_name, options)
        target = float(np.mean([schedule(step / options.steps).centre for step in range(options.steps)]))
        settings[TARGETED[recipe]] = {"aec": {"target": target}} if recipe == "aec" else {"target": target}
    return settings


def mean_bonus(policy_name: str, schedule_name: str, options: Options) -> float:
    """Return the mean coefficient that the solved bonus takes on this schedule, its scale learnt in a network."""
    solved = "solved_bonus" if policy_name == "table" else "solved_bonus_learnt"
    settings = settings_of(solved, policy_name, schedule_name, options)
    schedule = schedule_of(schedule_name, policy_name, options)
    taken = [float(step.info["bonus"].mean()) for step in steps_of(policy_name, settings, schedule, options)]
    return float(np.mean(taken))


def run(name: str, policy_name: str, schedule_name: str, options: Options) -> Rows:
    """Run one controller; return its curve, and how it followed, a repeat."""
    signed = RECIPES.get(name, RECIPES["grpo"]).reward == "signed"
    schedule = schedule_of(schedule_name, policy_name, options)
    settings = settings_of(name, policy_name, schedule_name, options)
    entropies, rewards, centres, bonuses, clipped = [], [], [], [], []
    for step in steps_of(policy_name, settings, schedule, options, signed):
        assert step.expected_reward is not None
        entropies.append(exact(step))
        rewards.append((step.expected_reward + 1) / 2 if signed else step.expected_reward)
        centres.append(step.band.centre)
        bonuses.append(step.info.get("bonus", torch.zeros_like(entropies[-1])))
        clipped.append(step.clip_low + step.clip_high)
    entropy, reward = torch.stack(entropies), torch.stack(rewards)
    centre = torch.tensor(centres, dtype=entropy.dtype)
    columns = followed(entropy, centre)
    columns |= {"reward": reward[-1], "entropy": entropy[-1], "clipped": torch.stack(clipped).mean(0)}
    columns["bonus"] = torch.stack(bonuses).mean(0)
    if name == FIXED:
        coefficient = settings["terms"]["entropy_bonus"]["coefficient"]
        columns["bonus"] = torch.full_like(reward[-1], coefficient)
    known = {"policy": policy_name, "schedule": schedule_name, "controller": name}
    rows: list[dict[str, Any]] = []
    for repeat in range(options.repeats):
        numbers = {key: float(value[repeat]) for key, value in columns.items()}
        rows.append({"part": "summary", **known, "repeat": repeat, **numbers})
        for place in range(0, options.steps, options.every):
            point = {"entropy": float(entropy[place, repeat]), "target": centres[place]}
            rows.append({"part": "curve", **known, "repeat": repeat, "step": place, **point})
    return rows


def followed(entropy: Float[Tensor, "S R"], centre: Float[Tensor, "S"]) -> dict[str, Float[Tensor, "R"]]:
    """Return how a run followed its band's centre: after the first tenth, and after each jump of the centre.

    A reaction is the number of steps from a jump until the entropy is in the band; its mean over jumps up and over
    jumps down that it reached before the next one, NaN if it reached none, and the share that it reached. Schedules
    without jumps have NaN in both.

    >>> found = followed(torch.tensor([[1.0], [1.0], [1.5], [2.0], [1.5]]), torch.tensor([1.0, 2.0, 2.0, 2.0, 1.0]))
    >>> float(found["up"]), float(found["down_reached"])  # 1 -> 2 at step 1, reached at step 3
    (2.0, 0.0)
    """
    steps = len(centre)
    late, gap = torch.arange(steps) >= 0.1 * steps, (entropy - centre[:, None]).abs()
    inside = gap <= HALF_WIDTH
    found = {"rmse": gap[late].square().mean(0).sqrt(), "inside": inside[late].to(entropy).mean(0)}
    jumps = [step for step in range(1, steps) if abs(float(centre[step] - centre[step - 1])) > 2 * HALF_WIDTH]
    nothing = torch.full_like(entropy[0], float("nan"))
    for name, sign in (("up", 1), ("down", -1)):
        delays = []
        for place, step in enumerate(jumps):
            if sign * float(centre[step] - centre[step - 1]) < 0:
                continue
            until = jumps[place + 1] if place + 1 < len(jumps) else steps
            reached = inside[step:until]
            first = reached.to(torch.uint8).argmax(0).to(entropy)
            delays.append(torch.where(reached.any(0), first, nothing))
        if not delays:
            found |= {name: nothing, f"{name}_reached": nothing}
            continue
        delay = torch.stack(delays)
        found |= {name: delay.nanmean(0), f"{name}_reached": (~delay.isnan()).to(entropy).mean(0)}
    return found


MEASURES = ("rmse", "inside", "up", "up_reached", "down", "down_reached", "reward", "entropy", "bonus", "clipped")


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the curves of each schedule, and how each controller followed."""
    curves, summary = rows[rows["part"] == "curve"], rows[rows["part"] == "summary"]
    found: dict[str, pd.DataFrame] = {}
    for (policy, schedule), part in curves.groupby(["policy", "schedule"], sort=False):
        drawn = mean_and_interval(part, ["controller", "step"], "entropy")
        targets = part.groupby("step").target.first()
        found[f"curves_{policy}_{schedule}"] = drawn.assign(target=drawn["step"].map(targets))
    held = ["policy", "schedule", "controller"]
    lines = []
    for key, part in summary.groupby(held, sort=False):
        line: dict[str, Any] = dict(zip(held, key, strict=True))
        line |= {"cell": f"{key[0]}, {key[1]}"}
        for measure in MEASURES:
            line |= mean_error(measure, part[measure])
        jumps = not np.isnan(line["up_reached"])
        line["follows"] = line["up_reached"] == line["down_reached"] == 1 if jumps else line["rmse"] <= HALF_WIDTH
        lines.append(line)
    return {**found, "summary": pd.DataFrame(lines), "fixed": against_fixed(summary)}


def against_fixed(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the solved bonus less the fixed bonus of the same mean, paired by repeat."""
    lines = []
    for (policy, schedule), part in summary.groupby(["policy", "schedule"], sort=False):
        solved = "solved_bonus" if policy == "table" else "solved_bonus_learnt"
        wide = part.pivot(index="repeat", columns="controller", values=["rmse", "reward", "entropy"])
        line: dict[str, Any] = {
            "policy": policy,
            "schedule": schedule,
            "bonus": part.bonus[part.controller == FIXED].mean(),
        }
        for measure in ("rmse", "reward", "entropy"):
            line |= mean_error(measure, wide[measure][solved] - wide[measure][FIXED])
        lines.append(line)
    return pd.DataFrame(lines)


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return which controllers follow, how fast they react, and whether precision pays."""
    summary = found["summary"]
    lines = [verdict(summary)]
    for cell, part in summary.groupby("cell", sort=False):
        ordered = part.sort_values("rmse")
        shown = ordered[(ordered.rmse.rank() <= 7) | ordered.controller.isin(["grpo", "algorithm1", "released"])]
        listed = ", ".join(
            f"{row.controller} {text(row.rmse, row.rmse_error)} ({row.inside:.0%}, reward {row.reward:.3f})"
            for row in each(shown)
        )
        lines.append(f"{cell}: RMSE in nats (share of steps in band, reward at the end): {listed}.")
    lines += reactions(summary)
    lines += [*influences(summary), separation(summary), idle(summary)]
    for row in each(found["fixed"]):
        lines.append(
            f"{row.policy}, {row.schedule}: solved bonus less a fixed bonus of {row.bonus:.3f}: RMSE "
            f"{text(row.rmse, row.rmse_error, sign=True)} nats, reward at the end "
            f"{text(row.reward, row.reward_error, sign=True)}, entropy there "
            f"{text(row.entropy, row.entropy_error, sign=True)}."
        )
    return lines


def verdict(summary: pd.DataFrame) -> str:
    """Return whether only predictive control follows.

    A schedule with jumps is followed if the band is reached after every one, others if the RMSE is at most the band's
    half width. It holds if on every schedule but the natural one all predictive controllers follow and no other does;
    in part if at least one predictive controller follows all that it was run on, and no other does.
    """
    hard = summary[summary.schedule != NATURAL]
    wide = hard.pivot(index="cell", columns="controller", values="follows")
    everywhere = wide.fillna(True).astype(bool).all()
    names = [str(name) for name in wide]
    predictive = [name for name in (*PREDICTIVE, *LEARNT, *DIRECTIONAL) if name in names]
    follow_all = [name for name in predictive if everywhere[name]]
    others = [name for name in names if name not in predictive]
    others_any = [name for name in others if bool(wide[name].fillna(False).astype(bool).any())]
    others_all = [name for name in others if everywhere[name]]
    word = "does not hold"
    if follow_all and not others_all:
        word = "holds" if len(follow_all) == len(predictive) and not others_any else "holds in part"
    return (
        f"The claim {word}: all schedules they were run on but the natural one are followed (every jump reached, "
        f"without jumps RMSE at most {HALF_WIDTH} nats) by {', '.join(follow_all) or 'none'} of the predictive "
        f"controllers and by {', '.join(others_all) or 'none'} of the others; at least one of them by "
        f"{', '.join(others_any) or 'none'} of the others."
    )


def reactions(summary: pd.DataFrame) -> list[str]:
    """Return how fast controllers reacted to the square wave."""
    lines = []
    for policy, part in summary[summary.schedule == "square"].groupby("policy", sort=False):
        listed = ", ".join(
            f"{row.controller} up {reaction(row.up, row.up_reached)}, down {reaction(row.down, row.down_reached)}"
            for row in each(part)
        )
        lines.append(f"{policy}, steps until the band is reached after a jump of the square wave: {listed}.")
    return lines


def influences(summary: pd.DataFrame) -> list[str]:
    """Return how each controller follows in the network by what shared parameters do, and by each context alone."""
    lines = []
    for cell, part in summary[summary.policy == "mlp"].groupby("cell", sort=False):
        found = part.set_index("controller")
        pairs = [pair for pair in zip(PREDICTIVE, DIRECTIONAL, LEARNT, strict=True) if {*pair[1:]} <= {*found.index}]
        compared = "; ".join(
            f"{name} {text(found.rmse[shared], found.rmse_error[shared])} against "
            f"{text(found.rmse[alone], found.rmse_error[alone])}, reward {found.reward[shared]:.3f} against "
            f"{found.reward[alone]:.3f}"
            for name, shared, alone in pairs
        )
        if pairs:
            lines.append(f"{cell}, RMSE in nats with directional against tabular influence: {compared}.")
    return lines


def reaction(steps: float, reached: float) -> str:
    """Return the steps, or how many of the jumps were followed.

    >>> reaction(float("nan"), 0.0), reaction(12.0, 0.5)
    ('never', '12 (50% of jumps)')
    """
    if np.isnan(steps) or reached == 0:
        return "never"
    return f"{steps:.0f}" if reached == 1 else f"{steps:.0f} ({reached:.0%} of jumps)"


def separation(summary: pd.DataFrame) -> str:
    """Return how far GRPO's RMSE is from the best on each schedule: a schedule near GRPO's own pace tells little."""
    table = summary[summary.policy == "table"]
    parts = []
    for schedule, part in table.groupby("schedule", sort=False):
        rmse = part.set_index("controller").rmse
        near = int((rmse <= 2 * HALF_WIDTH).sum())
        parts.append(f"{schedule} {rmse['grpo']:.3f} against {rmse.min():.3f} ({near} of {len(rmse)} within 0.1)")
    gap = table[table.controller == "grpo"].set_index("schedule").rmse - table.groupby("schedule").rmse.min()
    word = "separates them least" if NATURAL in gap and gap.idxmin() == NATURAL else "does not separate them least"
    return f"GRPO's RMSE against the best one's, table: {'; '.join(parts)}; the schedule near GRPO's own pace {word}."


def idle(summary: pd.DataFrame) -> str:
    """Return which controllers do nothing that GRPO does not, everywhere."""
    rmse = summary.pivot(index="cell", columns="controller", values="rmse")
    same = [str(name) for name in rmse if name != "grpo" and bool(((rmse[name] - rmse["grpo"]).abs() < 0.005).all())]
    return (
        f"RMSE within 0.005 nats of GRPO's in every cell: {', '.join(same) or 'none'}; the clip rule stopped "
        f"the gradient of {summary.clipped[summary.controller == 'grpo'].max():.2%} of GRPO's tokens at most."
    )


def curve_panel(policy: str, schedule: str) -> Panel:
    """Return the panel of a schedule's curves."""
    return Panel(
        f"{schedule.capitalize()} target, {policy}",
        f"curves_{policy}_{schedule}",
        "step",
        "entropy",
        by="controller",
        low="low",
        high="high",
        y_label="entropy (nats)",
        reference=("target",),
    )


EXPERIMENT = Experiment(
    name="schedules",
    claim="Predictive control follows constant, linear, cosine and square-wave schedules; no other control does.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        curve_panel("table", "constant"),
        curve_panel("table", "square"),
        curve_panel("table", "linear"),
        curve_panel("mlp", "square"),
        Panel("RMSE", "summary", "cell", "controller", kind="map", value="rmse", value_label="nats"),
        Panel("Reward at the end", "summary", "cell", "controller", kind="map", value="reward", value_label="reward"),
    ),
)
