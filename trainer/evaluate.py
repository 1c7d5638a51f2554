"""Held-out evaluation: samples of each prompt, and what they say of the policy, with intervals over prompts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tqdm import tqdm

from trainer.config import TrainConfig
from trainer.data import PromptSource, Row, encode_prompts, max_new_tokens
from trainer.engine import Engine, build_engine
from trainer.estimators import Estimate, bootstrap, majority_at_k, pass_at_k
from trainer.evaluation_settings import Setting, build_settings, evaluation_key
from trainer.methods.stages import RewardFunction
from trainer.model import Policy
from trainer.rewards import Rewards, judged
from trainer.sampling import sample
from trainer.streams import TokenUniforms, numpy_stream, stream_seed
from trainer.workers import ALONE, Workers


@dataclass(frozen=True)
class Evaluation:
    """The result of one held-out evaluation.

    Args:
        key: its name among those of a step: the setting, or `set/setting` where the configuration names its sets.
        set: name of the held-out set.
        setting: name of the sampling setting.
        samples: completions a prompt.
        correct: right answers among them, one a prompt.
        distinct: distinct right answers among them, one a prompt.
        failures: checks of completions that failed, as by a deadline: they count as wrong.
        per_prompt: one value a prompt of each other estimate, by name.
        estimates: means over prompts by name: pass@k (pass@1 is mean@samples) and maj@k for each k up to `samples`,
            `distinct`, `response_length` (tokens), `finished` (share of completions that ended by themselves), and
            `entropy` (nats per token at temperature 1, over all tokens of these completions).
    """

    key: str
    set: str
    setting: str
    samples: int
    correct: tuple[int, ...]
    distinct: tuple[int, ...]
    failures: int
    per_prompt: dict[str, tuple[float, ...]]
    estimates: dict[str, Estimate]


@dataclass(frozen=True)
class Completion:
    """One completion of a held-out prompt; `entropy` is the sum over its tokens, in nats, at temperature 1."""

    text: str
    reward: float
    tokens: int
    finished: bool
    entropy: float


@dataclass(frozen=True)
class Collector:
    """Samples and scores completions of held-out prompts.

    Args:
        policy: the policy.
        reward: scores completions; the first of several judges.
        setting: how they are sampled, and how many a prompt.
        max_new_tokens: after which a completion is cut.
        generator: source of the uniforms.
        engine: what samples.
    """

    policy: Policy
    reward: RewardFunction | Rewards
    setting: Setting
    max_new_tokens: int
    generator: TokenUniforms
    engine: Engine = sample

    def __call__(
        self, rows: Sequence[Row], rows_at_once: int, first: int = 0
    ) -> Iterator[tuple[Row, list[Completion]]]:
        """Yield each row with its completions, of which at most `rows_at_once` are sampled together.

        Args:
            rows: prompts.
            rows_at_once: most completions sampled together.
            first: place of the first row among all of the set, which addresses its draws.
        """
        ids = encode_prompts(self.policy, rows, self.max_new_tokens)
        for part, samples in blocks(len(rows), self.setting.samples, rows_at_once):
            if samples.start == 0:
                found: list[Completion] = []
            places = range(first + part.start, first + part.stop)
            found += self.block(rows[part.start : part.stop], ids[part.start : part.stop], places, samples)
            if samples.stop == self.setting.samples:
                for place, start in zip(part, range(0, len(found), samples.stop), strict=True):
                    yield rows[place], found[start : start + samples.stop]

    def block(
        self, rows: Sequence[Row], ids: Sequence[Sequence[int]], places: range, samples: range
    ) -> list[Completion]:
        """Return these samples of the prompts at these places, prompt after prompt."""
        rollouts = self.engine(
            self.policy,
            ids,
            len(samples),
            self.max_new_tokens,
            self.setting.sampling,
            generator=replace(self.generator, first_sample=samples.start),
            prompt_index=places,
        )
        completion_ids = rollouts.completions()
        texts = self.policy.decode(completion_ids)
        rewards = judged(self.reward, rows, texts, completion_ids).flatten().tolist()
        entropies = rollouts.entropy_t1.double().where(rollouts.mask, 0.0).sum(1).tolist()
        columns = (texts, rewards, rollouts.lengths.tolist(), rollouts.finished.tolist(), entropies)
        return [Completion(*values) for values in zip(*columns, strict=True)]


def blocks(prompts: int, samples: int, rows_at_once: int) -> Iterator[tuple[range, range]]:
    """Yield (places of prompts, samples of each) that cover all, at most `rows_at_once` rows each.

    Several prompts with all their samples, or one prompt with some of them.

    >>> list(blocks(3, 2, 4))
    [(range(0, 2), range(0, 2)), (range(2, 3), range(0, 2))]
    """
    at_once = max(1, rows_at_once // samples)
    for first in range(0, prompts, at_once):
        for start in range(0, samples, rows_at_once):
            yield range(first, min(first + at_once, prompts)), range(start, min(start + rows_at_once, samples))


def evaluate(
    policy: Policy,
    prompts: PromptSource,
    rows: Sequence[Row],
    reward: RewardFunction | Rewards,
    setting: Setting,
    *,
    held_out: str,
    max_new_tokens: int,
    seed: int,
    key: str | None = None,
    resample_seed: int = 0,
    rows_at_once: int = 1024,
    engine: Engine = sample,
    report: Callable[[int], Any] = lambda done: None,
    workers: Workers = ALONE,
) -> Evaluation:
    """Return the evaluation of a policy on a held-out set in one setting.

    All estimates resample the same prompts, and so do other evaluations of the set with this resample seed: intervals
    of differences can be made from the values per prompt.

    Args:
        policy: the policy.
        prompts: knows which answers to its prompts mean the same.
        rows: the set's prompts, at least one.
        reward: a completion is right when its reward, or the first of several, is above 0; None is not.
        setting: how completions are sampled.
        held_out: the set's name.
        max_new_tokens: after which a completion is cut.
        seed: root of the stream that samples completions.
        key: the evaluation's name, the setting's by default; it names the stream too.
        resample_seed: root of the stream that resamples prompts.
        rows_at_once: most completions sampled together.
        engine: what samples.
        report: called with 1 after each prompt.
        workers: the processes that share the prompts among them; all return the same.
    """
    key = key or setting.name
    generator = TokenUniforms(stream_seed(seed, "eval", key))
    collect = Collector(policy, reward, setting, max_new_tokens, generator, engine)
    judge = Rewards.of(reward).judge
    failed_before = judge.failures
    judged_prompts = []
    own = workers.part(len(rows))
    for row, completions in collect(rows[own.start : own.stop], rows_at_once, own.start) if own else ():
        texts = [completion.text for completion in completions]
        right = [completion.reward > 0 for completion in completions]
        votes = [
            vote(prompts, row, judge.function, text, is_right) for text, is_right in zip(texts, right, strict=True)
        ]
        distinct = count_distinct(prompts, row, texts, right)
        judged_prompts.append((sum(right), measure(completions, right, votes, distinct, setting.pass_at)))
        report(1)
    every = [found for part in workers.gather(judged_prompts) for found in part]
    correct, measured = zip(*every, strict=True)
    columns = {name: tuple(values[name] for values in measured) for name in measured[0]}
    estimates = {
        name: bootstrap(
            values,
            generator=numpy_stream(resample_seed, "bootstrap", held_out),
            weights=columns["response_length"] if name == "entropy" else None,
        )
        for name, values in columns.items()
    }
    return Evaluation(
        key=key,
        set=held_out,
        setting=setting.name,
        samples=setting.samples,
        correct=correct,
        distinct=tuple(map(int, columns.pop("distinct"))),
        failures=sum(workers.gather(judge.failures - failed_before)),
        per_prompt=columns,
        estimates=estimates,
    )


def measure(
    completions: Sequence[Completion],
    right: Sequence[bool],
    votes: Sequence[str | None],
    distinct: int,
    pass_at: Sequence[int],
) -> dict[str, float]:
    """Return what one prompt's completions say, by name of the estimate."""
    count = len(completions)
    tokens = sum(completion.tokens for completion in completions)
    return {
        **{f"pass@{k}": pass_at_k(count, sum(right), k) for k in pass_at},
        **{f"maj@{k}": majority_at_k(votes, right, k) for k in pass_at if k > 1},
        "distinct": float(distinct),
        "response_length": tokens / count,
        "finished": sum(completion.finished for completion in completions) / count,
        "entropy": sum(completion.entropy for completion in completions) / tokens,
    }


def count_distinct(prompts: PromptSource, row: Row, texts: Sequence[str], right: Sequence[bool]) -> int:
    """Return how many of the right completions differ: in the task's canonical form, or in their text."""
    return len({prompts.solution(row, text) or text.strip() for text, good in zip(texts, right, strict=True) if good})


def vote(prompts: PromptSource, row: Row, judge: RewardFunction, text: str, right: bool) -> str | None:
    """Return what a completion votes for in maj@k; None is no vote.

    The task's canonical form where it has one; else what the judge's `answer(completion)` extracts, where a wrong
    completion without an answer has no vote; else the text.
    """
    solution = prompts.solution(row, text)
    if solution is not None:
        return solution
    extract = getattr(judge, "answer", None)
    if extract is None:
        return text.strip()
    answer = extract(text)
    if answer is not None and not isinstance(answer, str):
        raise ValueError(
            f"reward.answer(completion) must return text or None; got a {type(answer).__name__} for {text[:60]!r}. "
            "Return the answer as text."
        )
    return text.strip() if answer is None and right else answer


def evaluate_settings(
    policy: Policy,
    prompts: PromptSource,
    reward: RewardFunction | Rewards,
    config: TrainConfig,
    workers: Workers = ALONE,
) -> Iterator[Evaluation]:
    """Yield the evaluation of a policy on every held-out set in every setting, as each finishes, with progress bars."""
    chosen, rollout = config.evaluation, config.rollout
    engine = partial(build_engine(rollout), stop=rollout.stop)
    for held_out in prompts.held_out_sets if chosen.prompts else ():
        rows = prompts.held_out_rows(held_out, chosen.prompts)
        for setting in build_settings(chosen) if rows else ():
            key = evaluation_key(config, held_out, setting.name)
            own, quiet = len(workers.part(len(rows))), not workers.main
            with tqdm(total=own, desc=f"evaluate {key}", unit="prompt", leave=False, disable=quiet) as progress:
                yield evaluate(
                    policy,
                    prompts,
                    rows,
                    reward,
                    setting,
                    held_out=held_out,
                    key=key,
                    max_new_tokens=max_new_tokens(config),
                    seed=config.seed,
                    resample_seed=chosen.seed,
                    rows_at_once=chosen.rows_at_once,
                    engine=engine,
                    report=progress.update,
                    workers=workers,
                )
