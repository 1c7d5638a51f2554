"""Held-out evaluation: mean@k, unbiased pass@k and distinct right answers, with bootstrap intervals over prompts."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from tqdm import tqdm

from trainer.config import EVALUATION_SETTINGS, TrainConfig
from trainer.data import PromptSource, Row, build_prompts, encode_prompts, fit_prompts, max_new_tokens, with_chat
from trainer.methods.stages import RewardFunction
from trainer.model import Policy, load_policy, set_threads
from trainer.rewards import Rewards, build_reward, check_rewards, judged
from trainer.sampling import Sampling, sample
from trainer.streams import TokenUniforms, numpy_stream, stream_seed

SETTINGS = {name: Sampling(*values) for name, values in EVALUATION_SETTINGS.items()}
PASS_AT = (1, 8, 32)
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """The result of one held-out evaluation.

    Args:
        setting: name of the sampling setting.
        samples: completions a prompt.
        correct: right answers among them, one a prompt.
        distinct: distinct right answers among them, one a prompt.
        entropy: nats per token at temperature 1, on the evaluation's own completions.
        response_length: mean tokens of a completion.
        estimates: pass@k for each k up to `samples`, and `distinct`, by name. pass@1 is the share of right completions
            (mean@samples).
    """

    setting: str
    samples: int
    correct: tuple[int, ...]
    distinct: tuple[int, ...]
    entropy: float
    response_length: float
    estimates: dict[str, Estimate]


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of the probability that one of k completions is right: 1 - C(n - c, k) / C(n, k).

    Args:
        samples: n, completions drawn.
        correct: c, how many of them are right.
        k: at most n.

    Raises:
        ValueError: k > n.

    Source: Chen et al. 2021, arXiv 2107.03374, Equation 1.

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if k > samples:
        raise ValueError(f"pass_at_k(samples={samples}, k={k}) must have k <= samples. Draw more samples.")
    return 1 - comb(samples - correct, k) / comb(samples, k)


def bootstrap(values: Sequence[float], *, generator: np.random.Generator) -> Estimate:
    """Return the mean of per-prompt values with its 95 % percentile interval over resampled prompts."""
    array = np.asarray(values, dtype=float)
    means = array[generator.integers(len(array), size=(RESAMPLES, len(array)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(array.mean()), float(low), float(high))


def evaluate(
    policy: Policy,
    prompts: PromptSource,
    reward: RewardFunction | Rewards,
    *,
    count: int,
    samples: int,
    max_new_tokens: int,
    setting: str,
    seed: int,
    rows_at_once: int = 1024,
    report: Callable[[int], Any] = lambda done: None,
) -> Evaluation | None:
    """Return the evaluation of a policy on held-out prompts; None where there are none.

    Args:
        policy: the policy.
        prompts: where the held-out prompts come from.
        reward: a completion is right when its reward, or the first of several, is above 0; None is not.
        count: held-out prompts.
        samples: completions a prompt.
        max_new_tokens: after which a completion is cut.
        setting: a name in SETTINGS.
        seed: root of the evaluation's random streams.
        rows_at_once: completions sampled together.
        report: called with the number of prompts just finished.

    Raises:
        ValueError: an unknown setting.
    """
    if setting not in SETTINGS:
        raise ValueError(f"evaluation.settings must be of {sorted(SETTINGS)}; got {setting!r}.")
    rows = [row for name in prompts.held_out_sets[:1] for row in prompts.held_out_rows(name, count)]
    if not rows:
        return None
    ids = encode_prompts(policy, rows, max_new_tokens)
    generator = TokenUniforms(stream_seed(seed, "eval", setting))
    correct, distinct, entropies, lengths = [], [], [], []
    at_once = max(1, rows_at_once // samples)
    for first in range(0, len(rows), at_once):
        part = range(first, min(first + at_once, len(rows)))
        rollouts = sample(
            policy,
            [ids[index] for index in part],
            samples,
            max_new_tokens,
            SETTINGS[setting],
            generator=generator,
            prompt_index=part,
        )
        texts = policy.decode(rollouts.completions())
        rewards = judged(reward, [rows[index] for index in part], texts, rollouts.completions())
        for index, row_rewards, start in zip(part, rewards.tolist(), range(0, len(texts), samples), strict=True):
            right, found = judge(prompts, rows[index], texts[start : start + samples], row_rewards)
            correct.append(right)
            distinct.append(found)
        entropies.append((rollouts.mean(rollouts.entropy_t1), int(rollouts.mask.sum())))
        lengths.extend(rollouts.lengths.tolist())
        report(len(part))
    per_prompt: dict[str, list[float]] = {
        f"pass@{k}": [pass_at_k(samples, c, k) for c in correct] for k in PASS_AT if k <= samples
    }
    per_prompt["distinct"] = [float(value) for value in distinct]
    return Evaluation(
        setting=setting,
        samples=samples,
        correct=tuple(correct),
        distinct=tuple(distinct),
        entropy=sum(h * n for h, n in entropies) / sum(n for _, n in entropies),
        response_length=float(np.mean(lengths)),
        estimates={
            name: bootstrap(values, generator=numpy_stream(seed, "bootstrap", setting, name))
            for name, values in per_prompt.items()
        },
    )


def evaluate_settings(
    policy: Policy, prompts: PromptSource, reward: RewardFunction | Rewards, config: TrainConfig
) -> list[Evaluation]:
    """Return the evaluation of a policy in every setting of `config.evaluation`, with a progress bar for each."""
    chosen, results = config.evaluation, []
    for setting in chosen.settings if chosen.prompts else ():
        with tqdm(total=chosen.prompts, desc=f"evaluate {setting}", unit="prompt", leave=False) as progress:
            result = evaluate(
                policy,
                prompts,
                reward,
                count=chosen.prompts,
                samples=chosen.samples,
                max_new_tokens=max_new_tokens(config),
                setting=setting,
                seed=config.seed,
                rows_at_once=chosen.rows_at_once,
                report=progress.update,
            )
        if result is not None:
            results.append(result)
    return results


def evaluate_checkpoint(config: TrainConfig) -> list[Evaluation]:
    """Return the evaluations of the model at `config.model.path`.

    Raises:
        FileNotFoundError: no such model.
        ValueError: no held-out prompts, or a setting that cannot be used.
    """
    model = config.model
    prompts = build_prompts(config)
    policy = load_policy(model.path, dtype=model.dtype, device=model.device, attention=model.attention)
    policy = with_chat(policy, config.data)
    set_threads(model.threads, policy)
    prompts = fit_prompts(policy, prompts, config, train=False)
    with closing(build_reward(config)) as reward:
        check_rewards(reward, prompts)
        results = evaluate_settings(policy, prompts, reward, config)
    if not results:
        raise ValueError("evaluate_checkpoint(config) must have held-out prompts; got none. Set data.held_out.")
    return results


def judge(prompts: PromptSource, row: Row, texts: list[str], rewards: list[float]) -> tuple[int, int]:
    """Return how many of a prompt's completions are right (reward above 0), and how many distinct ones among them."""
    right = [text for text, value in zip(texts, rewards, strict=True) if value > 0]
    return len(right), len({prompts.solution(row, text) or text.strip() for text in right})
