"""How far the long study's rule can be trusted: it is given studies of two equal arms, and of arms that differ.

Each simulated study goes through `trainer.study.decision`, as the real one does. Printed are how often each of the two
95 % intervals leaves out the truth, how often both do, which is when the rule may decide, and what difference both
find beyond the margin in half of the studies and in 80 of 100. About a minute for each 100 studies a row.

    python benchmarks/decision_rule.py --studies 300

A prompt is right with probability Phi(x / SHARPNESS), where x is a sum of normal parts: one that all policies share,
one an arm, one a seed, one that drifts along a run and one of its own for each evaluation. Their sizes are fitted to
the correlations of pass@1, prompt by prompt, between runs of the long study at 0.6/0.95/20 (`MEASURED`); the mean
follows GRPO's curve there. What is simulated is printed beside what was measured.
"""

import argparse
import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm
from tqdm import tqdm

from trainer.study.decision import DETECTABLE, History, best, difference, last

PROMPTS, WINDOW, MARGIN = 512, 3, 0.01
# pass@1 of GRPO at steps 0, 200, ..., 4000, mean over five seeds.
CURVE = np.array(
    [
        *(0.087, 0.167, 0.175, 0.192, 0.206, 0.212, 0.233, 0.239, 0.244, 0.249, 0.255),
        *(0.260, 0.262, 0.266, 0.269, 0.273, 0.276, 0.279, 0.283, 0.286, 0.289),
    ]
)
SAMPLES = np.array([16] * 18 + [64, 64, 256])
# Correlations over prompts, late in the runs: of two arms, of two seeds of an arm, of evaluations eight and one apart.
MEASURED = {"arms": 0.565, "seeds": 0.65, "eight apart": 0.73, "neighbours": 0.79}
# A share of prompts is never solved and another always: how sharp the step from one to the other is, and the share of
# variance that counts of finite samples leave.
SHARPNESS, SEEN = 0.072, 0.92
# Points by which all prompts of an evaluation move together.
WAVER = 0.004
# Seeds, and how much the difference of two arms varies by seed: as in `pays`, `soft_pays`, and none and more.
STUDIES = ((5, 0.0), (5, 0.0147), (5, 0.025), (3, 0.015), (3, 0.03), (2, 0.015))


def parts() -> np.ndarray:
    """Return the standard deviations of x's parts: shared, an arm's, a seed's, drifting, an evaluation's own."""
    scale = math.sqrt(1 + SHARPNESS**2)
    level = -norm.ppf(CURVE[-3:].mean())

    def correlation(latent: float) -> float:
        r = latent / scale**2
        both = multivariate_normal.cdf([-level, -level], cov=[[1, r], [r, 1]])
        share = norm.cdf(-level)
        return float((both - share**2) / (share * (1 - share)))

    wanted = [brentq(lambda r, of=of: correlation(r) - of * SEEN, 0.01, 0.9999) for of in MEASURED.values()]
    return np.sqrt(np.diff([0.0, *wanted, 1.0]))


def study(rng: np.random.Generator, seeds: int, spread: float, sizes: np.ndarray) -> list[np.ndarray]:
    """Return pass@1 of two equal arms, each `[S, E, N]`."""
    shared, arm, seed, drift, own = sizes
    level = math.sqrt(1 + SHARPNESS**2) * norm.ppf(CURVE)[:, None]
    # How far x moves where the mean of pass@1 moves by one.
    per_point = 1 / norm.pdf(norm.ppf(CURVE[-1]))
    common = shared * rng.standard_normal(PROMPTS)
    found = []
    for _ in range(2):
        noise = rng.standard_normal((seeds, len(CURVE), PROMPTS))
        slow = np.empty_like(noise)
        slow[:, 0] = noise[:, 0]
        for step in range(1, len(CURVE)):
            slow[:, step] = 0.8 * slow[:, step - 1] + 0.6 * noise[:, step]
        x = level + common + arm * rng.standard_normal(PROMPTS) + seed * rng.standard_normal((seeds, 1, PROMPTS))
        x = x + drift * slow + own * rng.standard_normal(noise.shape)
        x = x + per_point * spread / math.sqrt(2) * rng.standard_normal((seeds, 1, 1))
        x = x + per_point * WAVER * rng.standard_normal((seeds, len(CURVE), 1))
        found.append(rng.binomial(SAMPLES[:, None], norm.cdf(x / SHARPNESS)) / SAMPLES[:, None])
    return found


def answer(arms: list[np.ndarray]) -> list[float]:
    """Return the difference and both its intervals, by the rule: last three less the other's best three."""
    own, other = ([History(np.arange(len(CURVE)), run, SAMPLES) for run in arm] for arm in arms)
    found = difference([last(run, WINDOW) for run in own], [best(run, WINDOW) for run in other], MARGIN)
    return [found[name] for name in ("value", "low", "high", "seeds_low", "seeds_high", "detectable")]


def main() -> None:
    """Simulate, and print a row for each kind of study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300, help="simulated ones for each row")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rng, sizes, looks = np.random.default_rng(chosen.seed), parts(), []
    print("points; leaves out the truth, % of studies: resampled, t, both | 80 of 100, half: found, said")
    for seeds, spread in STUDIES:
        answers = []
        for _ in tqdm(range(chosen.studies), leave=False):
            arms = study(rng, seeds, spread, sizes)
            answers.append(answer(arms))
            pairs = ((0, 0, -2, 1, 0, -2), (0, 0, -2, 0, 1, -2), (0, 0, -2, 0, 0, -10), (0, 0, -2, 0, 0, -3))
            looks.append([np.corrcoef(arms[a][s, e], arms[b][t, f])[0, 1] for a, s, e, b, t, f in pairs])
        value, low, high, seeds_low, seeds_high, detectable = np.array(answers).T
        truth = value.mean()
        out = [(bottom > truth) | (top < truth) for bottom, top in ((low, high), (seeds_low, seeds_high))]
        both = [np.minimum(low, seeds_low), np.maximum(high, seeds_high)]
        outside = [*out, (both[0] > truth) | (both[1] < truth)]
        # A gain moves an interval and does not widen it.
        found = [np.quantile(MARGIN - both[0], share) + truth for share in (0.8, 0.5)]
        said = [np.median(detectable), MARGIN + np.median((detectable - MARGIN) / DETECTABLE)]
        print(
            f"{seeds} seeds that differ by {100 * spread:.2f}: equal arms {100 * truth:+.2f};",
            ", ".join(f"{100 * share.mean():.1f}" for share in outside),
            "|",
            ", ".join(f"{100 * a:.1f} ({100 * b:.1f})" for a, b in zip(found, said, strict=True)),
            f"[{100 * np.quantile(detectable, 0.1):.1f}, {100 * np.quantile(detectable, 0.9):.1f}]",
            flush=True,
        )
    pairs = zip(MEASURED.items(), np.mean(looks, axis=0), strict=True)
    print("correlations:", ", ".join(f"{name} {found:.2f} (measured {of:.2f})" for (name, of), found in pairs))


if __name__ == "__main__":
    main()
