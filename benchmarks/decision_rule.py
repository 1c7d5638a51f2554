"""How far the long study's rule can be trusted: it is given studies of two equal arms.

Each simulated study goes through `trainer.study.decision`, as the real one does. Printed are how often each of the two
95 % intervals leaves out the truth, how often both do, which is when the rule may decide, and what difference both
find beyond the margin in half of the studies and in 80 of 100. About half a minute for each 100 studies.

    python benchmarks/decision_rule.py --studies 300

A prompt is right with probability Phi(x / SHARPNESS), where x is a sum of normal parts: one that all policies share,
one an arm, one a seed, one that drifts along a run and one of its own for each evaluation. What is simulated is made
like GRPO and the solved bonus of the long study at 0.6/0.95/20, of whose tables the mean curve and the correlations
between runs, prompt by prompt, are taken; these and the other sizes are printed for both at the end.
"""

import argparse
import math

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm
from tqdm import tqdm

from figures.estimates import counts_of
from figures.study import Data
from trainer.study.decision import DETECTABLE, History, best, difference, last

WINDOW, MARGIN = 3, 0.01
# Set by hand to the sizes printed at the end: how sharp the step from prompts that are never right to those that always
# are, the share of a correlation's variance that is not of finite samples, and by how much of pass@1 all prompts of an
# evaluation move together.
SHARPNESS, SEEN, WAVER = 0.072, 0.92, 0.004
# Seeds, and how much the difference of two arms varies by seed.
STUDIES = ((5, 0.0), (5, 0.0147), (5, 0.025), (3, 0.015), (3, 0.03), (2, 0.015))
# Of evaluations, from the last but one, that has as many samples as the last but two: eight back, and one.
EARLIER = (-10, -3)


def measured() -> tuple[list[np.ndarray], np.ndarray]:
    """Return pass@1 of the long study's two main arms, each `[S, E, N]`, and completions a prompt `[E]`."""
    long = Data().long
    every = pd.concat([long.evaluations, long.final]).sort_values("samples", kind="stable")
    rows = every[(every.part == "linear") & (every.setting == "paper")]
    rows = rows.drop_duplicates(["arm", "seed", "step"], keep="last").sort_values(["seed", "step"])
    arms = [
        np.stack(
            [
                np.stack([counts_of(row.counts) / row.samples for row in run.itertuples()])
                for _, run in rows[rows.arm == arm].groupby("seed")
            ]
        )
        for arm in ("grpo", "solved_bonus")
    ]
    one = rows[(rows.arm == "grpo") & (rows.seed == rows.seed.min())]
    return arms, one.samples.to_numpy()


def sizes_of(arms: list[np.ndarray]) -> dict[str, float]:
    """Return what is told of two arms: correlations over prompts, the spread of prompts, and how the mean moves."""

    def together(pairs: list[tuple[np.ndarray, np.ndarray, int]]) -> float:
        return float(np.mean([np.corrcoef(one[-2], other[at])[0, 1] for one, other, at in pairs]))

    seeds = range(len(arms[0]))
    return {
        "arms": together([(arms[0][seed], arms[1][seed], -2) for seed in seeds]),
        "seeds": together([(arm[s], arm[t], -2) for arm in arms for s in seeds for t in seeds if s < t]),
        "eight apart": together([(arm[seed], arm[seed], EARLIER[0]) for arm in arms for seed in seeds]),
        "neighbours": together([(arm[seed], arm[seed], EARLIER[1]) for arm in arms for seed in seeds]),
        "variance over prompts": float(np.mean([run[-2].var() for arm in arms for run in arm])),
        "step of the mean": float(np.mean([np.diff(run[10:].mean(1)).std() for arm in arms for run in arm])),
    }


def parts(curve: np.ndarray, sizes: dict[str, float]) -> np.ndarray:
    """Return the standard deviations of x's parts: shared, an arm's, a seed's, drifting, an evaluation's own."""
    level = -norm.ppf(curve[-3:].mean())

    def correlation(latent: float) -> float:
        r = latent / (1 + SHARPNESS**2)
        both = multivariate_normal.cdf([-level, -level], cov=[[1, r], [r, 1]])
        share = norm.cdf(-level)
        return float((both - share**2) / (share * (1 - share)))

    names = ("arms", "seeds", "eight apart", "neighbours")
    wanted = [brentq(lambda r, of=sizes[name]: correlation(r) - of * SEEN, 0.01, 0.9999) for name in names]
    return np.sqrt(np.diff([0.0, *wanted, 1.0]))


def simulated(
    rng: np.random.Generator, seeds: int, spread: float, curve: np.ndarray, samples: np.ndarray, deviations: np.ndarray
) -> list[np.ndarray]:
    """Return pass@1 of two equal arms, each `[S, E, N]`."""
    shared, arm, seed, drift, own = deviations
    shape = (seeds, len(curve), 512)
    level = math.sqrt(1 + SHARPNESS**2) * norm.ppf(curve)[:, None]
    # How far x moves where the mean of pass@1 moves by one.
    per_point = 1 / norm.pdf(norm.ppf(curve[-1]))
    common = shared * rng.standard_normal(shape[-1])
    found = []
    for _ in range(2):
        noise = rng.standard_normal(shape)
        slow = np.empty_like(noise)
        slow[:, 0] = noise[:, 0]
        for step in range(1, len(curve)):
            slow[:, step] = 0.8 * slow[:, step - 1] + 0.6 * noise[:, step]
        x = level + common + arm * rng.standard_normal(shape[-1]) + seed * rng.standard_normal((seeds, 1, shape[-1]))
        x = x + drift * slow + own * rng.standard_normal(shape)
        x = x + per_point * spread / math.sqrt(2) * rng.standard_normal((seeds, 1, 1))
        x = x + per_point * WAVER * rng.standard_normal((*shape[:2], 1))
        found.append(rng.binomial(samples[:, None], norm.cdf(x / SHARPNESS)) / samples[:, None])
    return found


def answer(arms: list[np.ndarray], samples: np.ndarray) -> list[float]:
    """Return the difference and both its intervals, by the rule: last three less the other's best three."""
    own, other = ([History(np.arange(len(samples)), run, samples) for run in arm] for arm in arms)
    found = difference([last(run, WINDOW) for run in own], [best(run, WINDOW) for run in other], MARGIN)
    return [found[name] for name in ("value", "low", "high", "seeds_low", "seeds_high", "detectable")]


def main() -> None:
    """Simulate, and print a row for each kind of study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300, help="simulated ones for each row")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    (grpo, other), samples = measured()
    curve, sizes = grpo.mean((0, 2)), sizes_of([grpo, other])
    deviations = parts(curve, sizes)
    rng, seen = np.random.default_rng(chosen.seed), []
    print("points; leaves out the truth, % of studies: resampled, t, both | 80 of 100, half: found (said) [10 %, 90 %]")
    for seeds, spread in STUDIES:
        answers = []
        for _ in tqdm(range(chosen.studies), leave=False):
            arms = simulated(rng, seeds, spread, curve, samples, deviations)
            answers.append(answer(arms, samples))
            seen.append(sizes_of(arms))
        value, low, high, seeds_low, seeds_high, detectable = np.array(answers).T
        truth = value.mean()
        least, most = np.minimum(low, seeds_low), np.maximum(high, seeds_high)
        outside = [
            (bottom > truth) | (top < truth) for bottom, top in ((low, high), (seeds_low, seeds_high), (least, most))
        ]
        # A gain moves an interval and does not widen it.
        found = [np.quantile(MARGIN - least, share) + truth for share in (0.8, 0.5)]
        said = [np.median(detectable), MARGIN + np.median((detectable - MARGIN) / DETECTABLE)]
        print(
            f"{seeds} seeds that differ by {100 * spread:.2f}: equal arms {100 * truth:+.2f};",
            ", ".join(f"{100 * share.mean():.1f}" for share in outside),
            "|",
            ", ".join(f"{100 * a:.1f} ({100 * b:.1f})" for a, b in zip(found, said, strict=True)),
            f"[{100 * np.quantile(detectable, 0.1):.1f}, {100 * np.quantile(detectable, 0.9):.1f}]",
            flush=True,
        )
    made = pd.DataFrame(seen).mean()
    print("simulated (measured):", ", ".join(f"{name} {made[name]:.3f} ({of:.3f})" for name, of in sizes.items()))


if __name__ == "__main__":
    main()
