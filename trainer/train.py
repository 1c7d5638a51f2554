"""The training loop. Read this first: it names every stage of a step, in order, and holds no maths.

A step samples P prompts x G completions, scores them, lets the filter decide which of them the update may use, updates
the policy, and compares what happened to its entropy with what theory predicts.
"""

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from trainer.algorithm import band_of_run, build_algorithm, build_schedule, needs_statistics, unreachable
from trainer.bad_steps import save_bad_step, stop_message
from trainer.checkpoint import RunState, last_whole_checkpoint, load_checkpoint, save_checkpoint
from trainer.condition import check_size
from trainer.config import TrainConfig
from trainer.data import PromptSource, Row, build_prompts, encode_prompts, fit_prompts, max_new_tokens
from trainer.engine import build_engine
from trainer.evaluate import Evaluation, evaluate_settings
from trainer.evaluation_settings import build_settings
from trainer.failures import explaining_full_disk, explaining_memory, resume_command
from trainer.gathering import everyones
from trainer.interrupt import Interrupt
from trainer.methods.pipeline import Algorithm, numbers
from trainer.methods.stages import Band, Filtered, Groups, Observation, RewardFunction, Schedule
from trainer.metrics import describe, rollout_rows, step_row
from trainer.model import set_threads
from trainer.network import Network, Reference
from trainer.onlooker import open_directory
from trainer.optimizer import build_optimizer, load_whole_state, set_learning_rate, whole_state
from trainer.parts import build_updater, frozen_copy, load_trained
from trainer.probe import Change, TabularTerms
from trainer.rewards import Rewards, Scores, build_reward, check_rewards, score, signed
from trainer.rollout import Rollouts
from trainer.sampling import Sampling
from trainer.schedule_file import with_points
from trainer.streams import TokenUniforms, row_uniforms, stream_seed
from trainer.summary import summarise
from trainer.text import printable, text_summary
from trainer.watch import Watch
from trainer.workers import find_workers, inner, whole_weights, whole_weights_of


@dataclass(frozen=True)
class Result:
    """A finished run: its directory, and what `summary.json` holds."""

    path: Path
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """What a step gathers before the filter decides."""

    rows: list[Row]
    texts: list[str]
    rollouts: Rollouts
    scores: Scores
    groups: Groups


def train(config: TrainConfig, reward: RewardFunction | None = None) -> Result:
    """Run, or resume, a training run and return its directory and summary.

    Args:
        config: the run.
        reward: scores completions; by default what the configuration names.

    Raises:
        ValueError: a setting, a prompt or a reward that cannot be used; the message says which.
        FileNotFoundError: a model or file that is not there.
        FileExistsError: a run directory that is in use.
        OSError: the disk is full; the message says what is kept.
        MemoryError: memory ran out; the message says where, and what to change.
        KeyboardInterrupt: after an interrupted run has saved a checkpoint.
    """
    threads = torch.get_num_threads()
    try:
        with explaining_full_disk(config):
            with explaining_memory("loading", config):
                run = Run(config, reward)
            # What the caller made is the caller's to close.
            rewards = closing(run.rewards) if reward is None else nullcontext()
            with closing(run), rewards, Interrupt(resume_command(config)) as interrupt:
                run.loop(interrupt)
                interrupt.at_once = True
                return run.finish()
    finally:
        torch.set_num_threads(threads)


class Run:
    """The parts of a run, and its loop.

    Args:
        config: the run.
        reward: scores completions; None for what the configuration names.
    """

    def __init__(self, config: TrainConfig, reward: RewardFunction | None) -> None:
        # Everything that can be refused is looked at before the run directory is touched.
        self.config = config = with_points(config)
        self.workers = find_workers(config)
        self.algorithm: Algorithm = build_algorithm(config)
        self.schedule: Schedule = build_schedule(config)
        self.prompts: PromptSource = build_prompts(config)
        self.rewards: Rewards = build_reward(config) if reward is None else Rewards.of(reward)
        check_rewards(self.rewards, self.prompts)
        self.new_tokens = max_new_tokens(config)
        build_settings(config.evaluation)
        self.sampling = Sampling(config.rollout.temperature, config.rollout.top_p, config.rollout.top_k)
        self.engine = build_engine(config.rollout)
        self.policy = load_trained(config, self.workers)
        set_threads(config.model.threads, self.policy)
        self.prompts = fit_prompts(self.policy, self.prompts, config, workers=self.workers)
        check_size(config, self.new_tokens, self.vocabulary)
        with ExitStack() as opened:
            self.directory = opened.enter_context(open_directory(config, self.workers))
            self.began = time.perf_counter()
            self.state = RunState(methods=self.algorithm.start())
            saved = last_whole_checkpoint(self.directory.path / "checkpoints", self.workers)
            reference, referred = None, "reference" in self.algorithm.needs
            if referred and not config.model.lora_rank:
                reference = frozen_copy(self.policy, self.workers, config.model.parallel)
            if saved:
                self.policy = load_trained(config, self.workers, saved)
            self.network = self.workers.share(Network(self.policy.model), config.model.parallel)
            if self.workers.count > 1:
                self.policy = replace(self.policy, network=inner(self.network))
            if referred and config.model.lora_rank:
                reference = Reference(inner(self.network), adapters=self.policy.model)
            self.optimizer = build_optimizer(self.network.parameters(), config.optimizer)
            if saved:
                moments, self.state = load_checkpoint(saved)
                load_whole_state(self.optimizer, moments)
            self.directory.begin(self.state.step)
            parts = (self.algorithm, self.network, reference, self.optimizer, self.workers)
            self.updater = build_updater(config, *parts)
            self.watch = Watch(config, self.algorithm, self.network, self.optimizer, self.workers)
            self.opened = opened.pop_all()

    def close(self) -> None:
        """Close the run directory, and leave it to others."""
        self.opened.close()

    def loop(self, interrupt: Interrupt) -> None:
        """Take the remaining steps."""
        config = self.config
        if config.evaluation.at_start and self.state.step == 0:
            self.evaluate()
        progress = tqdm(
            range(self.state.step, config.steps),
            desc=config.output.name,
            initial=self.state.step,
            total=config.steps,
            unit="step",
            disable=not self.workers.main,
            mininterval=0.2 if sys.stderr.isatty() else 10,
        )
        for step in progress:
            progress.set_postfix_str(describe(self.step(step)))
            done = step + 1
            last = done == config.steps
            if self.workers.main and config.log.text_every and done % config.log.text_every == 0:
                progress.write(printable(text_summary(self.directory.rows(), config.steps)))
            if config.evaluation.every and done % config.evaluation.every == 0 and not last:
                self.evaluate()
            asked = self.workers.any(interrupt.asked)
            if last or asked or (config.checkpoint.every and done % config.checkpoint.every == 0):
                self.save()
            if asked and not last:
                progress.close()
                raise KeyboardInterrupt(f"stopped after step {done}, saved. Go on with: {resume_command(config)}")

    def step(self, step: int) -> dict[str, Any]:
        """Take one step and return its row of metrics."""
        started = time.perf_counter()
        rate = set_learning_rate(self.optimizer, self.config.optimizer, step, self.config.steps)
        with explaining_memory("rollout", self.config):
            batch = self.gather(step)
        rollouts = batch.rollouts
        sampled = time.perf_counter()
        with explaining_memory("theory", self.config):
            watched = self.watch.before(step, rollouts)
            groups = self.watch.seen(batch.groups, rollouts, watched)
        filtered = self.algorithm.decide(self.state.methods, groups)
        probed = time.perf_counter()
        with explaining_memory("update", self.config):
            update = self.updater(rollouts, filtered, self.state.methods, self.noise(step, rollouts))
        updated = time.perf_counter()
        with explaining_memory("theory", self.config):
            change, tabular = self.watch.after(rollouts, filtered, update, watched)
        compared = time.perf_counter()
        times = {
            "wall_s": compared - self.began,
            "time_rollout_s": sampled - started - rollouts.statistics_s,
            "time_update_s": updated - probed,
            "time_theory_s": (probed - sampled) + (compared - updated) + rollouts.statistics_s,
        }
        row = step_row(
            state=self.state,
            rollouts=rollouts,
            raw_rewards=batch.scores.total,
            groups=groups,
            filtered=filtered,
            update=update,
            change=change,
            tabular=tabular,
            probe_rows=watched.rows if watched else None,
            lr=rate,
            times=times,
        )
        self.state, info = self.advance(groups, filtered, row, change, tabular)
        row["info"] = numbers({**batch.scores.info, **filtered.info, **info})
        self.directory.log(row)
        if update.bad:
            self.keep_bad(step, batch, filtered)
        if self.config.checkpoint.rollouts_every and step % self.config.checkpoint.rollouts_every == 0:
            count = self.config.checkpoint.rollouts
            self.directory.log_rollouts(
                step, rollout_rows(batch.rows, batch.texts, batch.scores.total, filtered, count)
            )
        return row

    def keep_bad(self, step: int, batch: Batch, filtered: Filtered) -> None:
        """Save a batch whose loss or gradient was not finite; stop the run after several in a row."""
        if self.workers.main:
            rows = rollout_rows(batch.rows, batch.texts, batch.scores.total, filtered, len(batch.texts))
            save_bad_step(self.directory.path, step, batch.rollouts, filtered, rows)
        if self.state.bad_in_a_row == self.config.optimizer.bad_steps:
            raise ValueError(stop_message(self.state.bad_in_a_row, self.directory.path))

    def gather(self, step: int) -> Batch:
        """Sample, score, and put together what the filter is to see."""
        config = self.config
        rows = self.prompts.train_rows(step, config.rollout.prompts)
        rollouts, texts, scores = everyones(self.sample(step, rows), self.workers)
        rewards = signed(scores.total) if config.reward.convention == "signed" else scores.total
        entropy = rollouts.mean(rollouts.entropy)
        if self.state.first_entropy is None:
            self.begin_band(entropy)
        groups = self.algorithm.see(
            self.state.methods,
            rewards,
            torch.tensor(entropy),
            self.band(step),
            step,
            rollouts.record.to("cpu"),
            next_band=self.band(min(step + 1, config.steps - 1)),
        )
        return Batch(rows, texts, rollouts, scores, groups)

    def sample(self, step: int, rows: list[Row]) -> tuple[Rollouts, list[str], Scores]:
        """Return this process's share of a step's completions, their texts and their rewards."""
        config, part = self.config, self.workers.part(len(rows))
        own = [rows[index] for index in part]
        with whole_weights(self.network):
            rollouts = self.engine(
                self.policy,
                encode_prompts(self.policy, own, self.new_tokens),
                config.rollout.group_size,
                self.new_tokens,
                self.sampling,
                generator=TokenUniforms(stream_seed(config.seed, "rollout", step)),
                prompt_index=part,
                statistics=needs_statistics(config, self.algorithm),
                temperatures=self.algorithm.temperatures,
                stop=config.rollout.stop,
                slots=config.rollout.slots,
            )
        texts = self.policy.decode(rollouts.completions())
        return rollouts, texts, score(self.rewards, own, texts, rollouts.completions())

    @property
    def vocabulary(self) -> int:
        """Logits a token."""
        return self.policy.model.get_input_embeddings().weight.shape[0]

    def begin_band(self, entropy: float) -> None:
        """Keep what the band depends on of the first batch, its entropy; say where the schedule cannot be reached."""
        unit = entropy if self.config.band.unit == "relative" else 1.0
        self.state = replace(self.state, first_entropy=entropy)
        warning = unreachable(self.schedule, self.config.steps, unit, self.vocabulary)
        if warning is not None:
            self.workers.say(warning)

    def band(self, step: int) -> Band:
        """Return the band of a step, in nats."""
        assert self.state.first_entropy is not None
        return band_of_run(self.config, self.schedule, step, self.state.first_entropy)

    def noise(self, step: int, rollouts: Rollouts) -> torch.Tensor | None:
        """Return uniforms `[B, T]` for methods that choose tokens at random, None where there are none."""
        if "noise" not in self.algorithm.needs:
            return None
        count, length = rollouts.mask.shape
        return row_uniforms(self.config.seed, "noise", step, count, length).to(self.policy.device)

    def advance(
        self,
        groups: Groups,
        filtered: Filtered,
        row: Mapping[str, Any],
        change: Change | None,
        tabular: TabularTerms | None,
    ) -> tuple[RunState, Mapping[str, Any]]:
        """Return the state after the step, controller and tabular scale having learnt from it, and what to log."""
        observation = Observation(
            step=row["step"],
            entropy=groups.entropy,
            band=groups.band,
            measured_change=change.measured if change else None,
            predicted_change=change.first_order if change else None,
            progress=(row["step"] + 1) / self.config.steps,
            info=filtered.info,
        )
        methods, info = self.algorithm.step(self.state.methods, observation)
        scale = self.state.scale
        if change and tabular and not row["skipped"]:
            scale = scale.learn(predicted=tabular.unit, measured=change.measured)
        bad = self.state.bad_in_a_row + 1 if row["bad_mini_batches"] else 0
        counts = {"step": row["step"] + 1, "samples": row["samples"], "tokens": row["tokens"], "bad_in_a_row": bad}
        return replace(self.state, **counts, methods=methods, scale=scale), info

    def save(self) -> None:
        """Write a checkpoint."""
        weights, moments = whole_weights_of(self.policy.model), whole_state(self.optimizer)
        if self.workers.main:
            folder = self.directory.path / "checkpoints"
            self.directory.to_disk()
            write = partial(self.policy.save, weights=weights)
            keep, every = self.config.checkpoint.keep, self.config.checkpoint.every
            save_checkpoint(folder, write, moments, self.state, keep, every)
        self.workers.wait()

    def evaluate(self) -> list[Evaluation]:
        """Evaluate the policy as it is, on every set in every setting, and log each result as it comes."""
        results = []
        with explaining_memory("evaluation", self.config), whole_weights(self.network):
            for result in evaluate_settings(self.policy, self.prompts, self.rewards, self.config, self.workers):
                self.directory.log_evaluation(self.state.step, result)
                results.append(result)
        return results

    def finish(self) -> Result:
        """Evaluate the final policy and write the summary."""
        evaluations = {result.key: asdict(result)["estimates"] for result in self.evaluate()}
        summary: dict[str, Any] = {}
        if self.workers.main:
            summary = {
                **summarise(self.directory.rows()),
                "evaluations": evaluations,
                "dropped_prompts": self.prompts.dropped,
            }
            self.directory.write_summary(summary)
        summary = self.workers.agree(summary)
        return Result(self.directory.path, summary)
