"""The loop: R independent runs of one algorithm side by side, through the very stages that the trainer runs."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from simulations.direction import find_direction
from simulations.exact import ExactAdvantages, policy_gradient, tree_of
from simulations.optimizers import SGD, Moments, Optimizer
from simulations.policies import ALL, Parameters, Policy, Prompts
from simulations.problems import Problem, score
from simulations.rollouts import Contexts, Rollouts, recorded, sample
from trainer.methods.pipeline import Algorithm, States, mean_loss, mini_batch_rows, weighted_advantages
from trainer.methods.stages import Band, Filtered, Groups, Observation, Schedule, TokenBatch, TokenRecord


def anywhere(progress: float) -> Band:
    """Return the band that holds every entropy."""
    return Band(0.0, math.inf)


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Args:
        policy: the policy.
        problem: the rewards.
        algorithm: one method a stage; `trainer.methods.assembly.assemble` builds it from names.
        steps: how many, for the schedule and for iterating.
        learning_rate: a number, or one a repeat `[R]`. The loss is a mean over prompts, samples and tokens, so a table
            of P prompts needs P times the rate of one prompt for the same step on its logits.
        optimizer: SGD or Adam.
        group_size: G, samples a prompt.
        prompts_per_step: n prompts drawn without replacement a step, each repeat its own; None takes all P.
        epochs: passes over a batch.
        mini_batches: optimiser steps a pass.
        schedule: progress -> band, nats per token; no band by default.
        exact_gradient: take the gradient of the expected value instead of a sampled one. No clip rule, filter, term or
            further pass takes part, and the batch is drawn for its statistics alone.
        exact_advantages: rewards and probabilities of all responses -> the value whose expectation an exact gradient
            raises, all `[R, P, V^T]`; the rewards by default.
        measure: compute the exact entropy and expected reward at every step, and the change of entropy on the batch's
            contexts.
    """

    policy: Policy
    problem: Problem
    algorithm: Algorithm
    steps: int
    learning_rate: float | Float[Tensor, " R"]
    optimizer: Optimizer = field(default_factory=SGD)
    group_size: int = 8
    prompts_per_step: int | None = None
    epochs: int = 1
    mini_batches: int = 1
    schedule: Schedule = anywhere
    exact_gradient: bool = False
    exact_advantages: ExactAdvantages | None = None
    measure: bool = True

    def __post_init__(self) -> None:
        policy, problem = self.policy, self.problem
        sizes = (policy.prompts, policy.vocabulary, policy.length)
        if sizes != (problem.prompts, problem.vocabulary, problem.length):
            raise ValueError(
                f"Setting(policy, problem) must have the same P, V and T; got {sizes} and "
                f"{(problem.prompts, problem.vocabulary, problem.length)}. Build one from the other's sizes."
            )
        for name in ("steps", "group_size", "epochs", "mini_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"Setting({name}={getattr(self, name)}) must be at least 1.")
        rate = torch.as_tensor(self.learning_rate)
        if not bool((rate > 0).all() and rate.isfinite().all()):
            raise ValueError(f"Setting(learning_rate={self.learning_rate}) must be finite and above 0.")
        if not 1 <= self.batch_prompts <= policy.prompts:
            raise ValueError(
                f"Setting(prompts_per_step={self.prompts_per_step}) must be between 1 and the policy's "
                f"{policy.prompts} prompts."
            )
        if self.mini_batches > self.batch_prompts:
            raise ValueError(
                f"Setting(mini_batches={self.mini_batches}) must leave a prompt in each; got {self.batch_prompts}. "
                "Lower it, or raise prompts_per_step."
            )

    @property
    def updates(self) -> int:
        """Optimiser steps a batch."""
        return self.epochs * self.mini_batches

    @property
    def batch_prompts(self) -> int:
        """n, prompts of a batch."""
        return self.policy.prompts if self.prompts_per_step is None else self.prompts_per_step

    def band(self, step: int) -> Band:
        """Return the band of a step."""
        return self.schedule(step / self.steps)


@dataclass(frozen=True)
class State:
    """Where R runs stand.

    Args:
        parameters: of the policy.
        moments: of the optimiser.
        states: of the stages.
        step: steps done.
    """

    parameters: Parameters
    moments: Moments
    states: States
    step: int


@dataclass(frozen=True)
class Pass:
    """One optimiser step of an update, for the ledger.

    Args:
        gradients: of the loss at the parameters it was taken at.
        active: repeats that took it.
    """

    gradients: Parameters
    active: Bool[Tensor, "R"]


@dataclass(frozen=True)
class Trace:
    """All that happened in a step, for the ledger.

    Args:
        before: where the runs stood.
        after: where they stand.
        rollouts: the batch.
        groups: what the filter saw.
        filtered: what it decided.
        passes: the optimiser steps.
        learning_rate: `[R]`.
        reference: the first parameters.
    """

    before: State
    after: State
    rollouts: Rollouts
    groups: Groups
    filtered: Filtered
    passes: tuple[Pass, ...]
    learning_rate: Float[Tensor, " R"]
    reference: Parameters


@dataclass(frozen=True)
class Step:
    """One step of R runs; every tensor `[R]`.

    Args:
        step: its index, from 0.
        band: where entropy was wanted.
        entropy: of the batch's contexts before the update, nats per token: the training curve.
        reward: mean of the batch.
        accepted: share of rollouts with a weight above 0.
        updates: optimiser steps taken.
        clip_low: share of the tokens computed whose gradient the lower bound removed.
        clip_high: likewise, the upper bound.
        exact_entropy: expected entropy of a token over all prompts before the update; None unless measured.
        expected_reward: over all prompts before the update; None unless measured.
        measured_change: of the entropy on the batch's contexts, nats per token; None unless measured.
        info: what the filter and the stages reported.
        trace: everything, for `ledger.ledger`; None unless traced.
    """

    step: int
    band: Band
    entropy: Float[Tensor, "R"]
    reward: Float[Tensor, "R"]
    accepted: Float[Tensor, "R"]
    updates: Float[Tensor, "R"]
    clip_low: Float[Tensor, "R"]
    clip_high: Float[Tensor, "R"]
    exact_entropy: Float[Tensor, "R"] | None
    expected_reward: Float[Tensor, "R"] | None
    measured_change: Float[Tensor, "R"] | None
    info: Mapping[str, Any]
    trace: Trace | None


class Simulation:
    """R runs of a setting, from a seed; iterating takes `setting.steps` steps.

    Repeats share nothing but the setting: each has its own first parameters and draws. Two settings of the same sizes
    and seed share the first parameters and all uniforms.

    Args:
        setting: what is simulated.
        repeats: R.
        seed: of every draw.
        dtype: of all numbers.
        device: of all tensors; draws are made on the CPU.
        trace: keep what the ledger needs.
    """

    def __init__(
        self,
        setting: Setting,
        repeats: int,
        *,
        seed: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        trace: bool = False,
    ) -> None:
        if repeats < 1 or seed < 0:
            raise ValueError(
                f"Simulation(repeats={repeats}, seed={seed}) must have at least one repeat and a seed of 0 or more."
            )
        self.setting, self.repeats, self.traced = setting, repeats, trace
        self.dtype, self.device = dtype, device
        start, self.rollout_draws, self.prompt_draws, self.noise_draws, self.filter_draws = generators(seed)
        parameters = setting.policy.start(repeats, generator=start, dtype=dtype, device=device)
        self.reference = parameters
        self.state = State(parameters, setting.optimizer.start(parameters), setting.algorithm.start(), 0)
        self.rewards = setting.problem.table(repeats, next(iter(parameters.values())))
        rate = torch.as_tensor(setting.learning_rate, dtype=dtype, device=device)
        self.learning_rate = rate.expand(repeats)

    def __iter__(self) -> Iterator[Step]:
        while self.state.step < self.setting.steps:
            yield self.advance()

    def uniforms(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return uniforms in [0, 1)."""
        return torch.rand(shape, generator=generator, dtype=self.dtype).to(self.device)

    def prompts(self) -> Prompts:
        """Return the prompts of a batch."""
        setting = self.setting
        if setting.prompts_per_step is None:
            return ALL
        keys = self.uniforms((self.repeats, setting.policy.prompts), self.prompt_draws)
        return keys.argsort(-1)[:, : setting.prompts_per_step]

    def rollouts(self, uniforms: Float[Tensor, "R n G T"] | None = None) -> Rollouts:
        """Return a batch, from these uniforms or from drawn ones."""
        setting = self.setting
        prompts = self.prompts()
        if uniforms is None:
            shape = (self.repeats, setting.batch_prompts, setting.group_size, setting.policy.length)
            uniforms = self.uniforms(shape, self.rollout_draws)
        tokens, contexts = sample(setting.policy, self.state.parameters, prompts, uniforms)
        rewards = score(self.rewards, prompts, tokens, setting.policy.vocabulary)
        record = recorded(contexts, tokens, setting.algorithm.needs, setting.algorithm.temperatures)
        return Rollouts(prompts, tokens, rewards, record, contexts)

    @torch.enable_grad()  # also where a caller has turned gradients off
    def advance(self, uniforms: Float[Tensor, "R n G T"] | None = None) -> Step:
        """Take one step and return its record.

        Args:
            uniforms: that sample the tokens; drawn by default.
        """
        setting, before = self.setting, self.state
        algorithm, band = setting.algorithm, setting.band(before.step)
        rollouts = self.rollouts(uniforms)
        entropy = rollouts.contexts.entropy.mean(-1)
        groups = self.groups(rollouts, entropy)
        filtered = algorithm.decide(before.states, groups)
        update = self.exact_update() if setting.exact_gradient else self.update(rollouts, filtered)
        change = None
        if setting.measure or "measured_change" in algorithm.needs:
            change = self.entropy_at(update.parameters, rollouts) - entropy
        observation = Observation(
            step=before.step,
            entropy=entropy,
            band=band,
            measured_change=change,
            progress=(before.step + 1) / setting.steps,
            info=filtered.info,
        )
        states, reported = algorithm.step(before.states, observation)
        self.state = State(update.parameters, update.moments, states, before.step + 1)
        exact_entropy, expected_reward = self.exact(before, rollouts) if setting.measure else (None, None)
        trace = None
        if self.traced:
            trace = Trace(
                before, self.state, rollouts, groups, filtered, tuple(update.passes), self.learning_rate, self.reference
            )
        tokens = max(update.tokens, 1)
        return Step(
            step=before.step,
            band=band,
            entropy=entropy,
            reward=rollouts.rewards.mean((-2, -1)),
            accepted=(filtered.weights > 0).to(entropy.dtype).mean((-2, -1)),
            updates=update.updates,
            clip_low=update.low / tokens,
            clip_high=update.high / tokens,
            exact_entropy=exact_entropy,
            expected_reward=expected_reward,
            measured_change=change,
            info={**filtered.info, **reported},
            trace=trace,
        )

    def groups(self, rollouts: Rollouts, entropy: Float[Tensor, "R"]) -> Groups:
        """Return what the filter is to see of a batch."""
        setting, state, needs = self.setting, self.state, self.setting.algorithm.needs
        more: dict[str, Any] = {}
        if "uniforms" in needs:
            more["uniforms"] = self.uniforms(tuple(rollouts.rewards.shape), self.filter_draws)
        if "direction" in needs:
            optimiser = (setting.optimizer, state.moments, self.learning_rate)
            more["direction"] = find_direction(setting.policy, state.parameters, *optimiser, rollouts, setting.updates)
        return setting.algorithm.see(
            state.states,
            rollouts.rewards,
            entropy,
            setting.band(state.step),
            state.step,
            rollouts.record,
            next_band=setting.band(min(state.step + 1, setting.steps - 1)),
            response=setting.optimizer.response(setting.updates),
            **more,
        )

    @torch.no_grad()
    def exact(self, state: State, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """Return the expected entropy of a token and the expected reward."""
        contexts, policy = rollouts.contexts, self.setting.policy
        if not policy.reads_tokens and isinstance(rollouts.prompts, slice):  # the batch's contexts are all there are
            return contexts.entropy.mean(-1), (contexts.probs * self.rewards).sum(-1).mean(-1)
        tree = tree_of(policy, state.parameters)
        return tree.entropy(), tree.expected(self.rewards)

    @torch.no_grad()
    def entropy_at(self, parameters: Parameters, rollouts: Rollouts) -> Float[Tensor, "R"]:
        """Return the entropy on the batch's contexts under other parameters, nats per token."""
        log_probs = self.setting.policy.logits(parameters, rollouts.prompts, rollouts.tokens).log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1).mean(-1)

    def exact_update(self) -> "Update":
        """Take one optimiser step along the gradient of the expected value."""
        setting, update = self.setting, Update.start(self.state, self.repeats, self.learning_rate)
        values = self.rewards
        if setting.exact_advantages is not None:
            with torch.no_grad():
                probabilities = tree_of(setting.policy, self.state.parameters).probabilities
            values = setting.exact_advantages(self.rewards, probabilities)
        _, gradients = policy_gradient(setting.policy, self.state.parameters, values)
        downhill = {name: -value for name, value in gradients.items()}
        active = torch.ones_like(update.updates, dtype=torch.bool)
        update.apply(setting.optimizer, downhill, self.learning_rate, active)
        update.passes.append(Pass(downhill, active))
        return update

    def update(self, rollouts: Rollouts, filtered: Filtered) -> "Update":
        """Take the optimiser steps of a batch: epochs of mini-batches of whole groups.

        A repeat whose mini-batch has no row that carries gradient keeps its parameters and moments.
        """
        setting, algorithm = self.setting, self.setting.algorithm
        advantages = weighted_advantages(filtered, rollouts.record.mask)
        weights = filtered.weights.flatten(-2)
        lengths = torch.tensor(setting.policy.length, device=weights.device).expand(weights.shape)
        reference = self.reference_log_prob(rollouts)
        update = Update.start(self.state, self.repeats, self.learning_rate)
        for _ in range(setting.epochs):
            for index in mini_batch_rows(weights.shape[-1], setting.group_size, setting.mini_batches):
                rows = slice(int(index[0]), int(index[-1]) + 1)
                mean = algorithm.denominator(lengths[:, rows], weights[:, rows])
                active = algorithm.carries_gradient(advantages[:, rows], mean, filtered.bonus).any(-1)
                part = rows_of(rollouts, rows, setting.group_size)
                if part is not rollouts or not update.untouched:
                    part = at_parameters(setting.policy, update.parameters, part)
                tokens = leaves(
                    part,
                    advantages[:, rows],
                    algorithm.needs | ({"entropy_gradient"} if filtered.bonus is not None else set()),
                    None if reference is None else reference[:, rows],
                    self.noise(part) if "noise" in algorithm.needs else None,
                )
                if algorithm.terms or algorithm.token_weight is not None or filtered.bonus is not None:
                    # Rows that do not count have no part in statistics and further terms either.
                    tokens = replace(tokens, mask=tokens.mask & mean.rows[..., None])
                surrogate = algorithm.surrogate(self.state.states, tokens, filtered.bonus)
                gradients = part.contexts.pullback(on_logits(mean_loss(surrogate.loss, mean).sum(), tokens, part))
                if setting.measure:
                    update.count(surrogate.clipped.low, surrogate.clipped.high)
                update.apply(setting.optimizer, gradients, self.learning_rate, active)
                if self.traced:
                    update.passes.append(Pass(gradients, active))
        return update

    def reference_log_prob(self, rollouts: Rollouts) -> Float[Tensor, "R B T"] | None:
        """Return the sampled tokens' log-probability under the first parameters, where a stage needs it."""
        if "reference" not in self.setting.algorithm.needs:
            return None
        at_first = at_parameters(self.setting.policy, self.reference, rollouts)
        return at_first.contexts.chosen(rollouts.tokens).flatten(1, 2)

    def noise(self, rollouts: Rollouts) -> Float[Tensor, "R B T"]:
        """Return uniforms for the tokens of some rows."""
        return self.uniforms(tuple(rollouts.tokens.flatten(1, 2).shape), self.noise_draws)


@dataclass
class Update:
    """An update under way.

    Args:
        parameters: so far.
        moments: so far.
        updates: optimiser steps taken, `[R]`.
        low: tokens that the lower bound clipped, `[R]`.
        high: likewise, the upper bound.
        tokens: computed so far, a repeat.
        untouched: no optimiser step was taken yet.
        passes: for the ledger.
    """

    parameters: Parameters
    moments: Moments
    updates: Float[Tensor, "R"]
    low: Float[Tensor, "R"]
    high: Float[Tensor, "R"]
    tokens: int = 0
    untouched: bool = True
    passes: list[Pass] = field(default_factory=list)

    @classmethod
    def start(cls, state: State, repeats: int, like: Tensor) -> "Update":
        """Return an update of which nothing was done."""
        zeros = like.new_zeros(repeats)
        return cls(state.parameters, state.moments, zeros, zeros, zeros)

    def apply(
        self, optimizer: Optimizer, gradients: Parameters, learning_rate: Tensor, active: Bool[Tensor, "R"]
    ) -> None:
        """Take an optimiser step in the active repeats."""
        self.moments, self.parameters = optimizer.step(self.moments, self.parameters, gradients, learning_rate, active)
        self.updates, self.untouched = self.updates + active, False

    def count(self, low: Bool[Tensor, "R B T"], high: Bool[Tensor, "R B T"]) -> None:
        """Count clipped tokens."""
        self.low, self.high = self.low + low.sum((-2, -1)), self.high + high.sum((-2, -1))
        self.tokens += low[0].numel()


def generators(seed: int) -> list[torch.Generator]:
    """Return generators for first parameters, rollouts, prompts, noise and filters."""
    seeds = np.random.SeedSequence(seed).generate_state(5, np.uint64)
    return [torch.Generator().manual_seed(int(value >> np.uint64(1))) for value in seeds]


def rows_of(rollouts: Rollouts, rows: slice, group_size: int) -> Rollouts:
    """Return some whole groups of a batch, its contexts left as they are."""
    if rows == slice(0, rollouts.rewards[0].numel()):
        return rollouts
    groups = slice(rows.start // group_size, rows.stop // group_size)
    # A batch whose prompts are a slice has all of them, in order.
    prompts = groups if isinstance(rollouts.prompts, slice) else rollouts.prompts[:, groups]
    record = rollouts.record
    part = TokenRecord(record.mask[:, groups], record.log_prob[:, groups], record.entropy[:, groups])
    return replace(
        rollouts, prompts=prompts, tokens=rollouts.tokens[:, groups], rewards=rollouts.rewards[:, groups], record=part
    )


def at_parameters(policy: Policy, parameters: Parameters, rollouts: Rollouts) -> Rollouts:
    """Return the same rollouts with the policy at their contexts under other parameters."""
    contexts = Contexts.of(policy.forward(parameters, rollouts.prompts, rollouts.tokens))
    return replace(rollouts, contexts=contexts, at_sampler=False)


def leaves(
    rollouts: Rollouts,
    advantages: Float[Tensor, "R B T"],
    needs: frozenset[str] | set[str],
    reference: Float[Tensor, "R B T"] | None,
    noise: Float[Tensor, "R B T"] | None,
) -> TokenBatch:
    """Return what the loss sees, its own small tensors: gradients stop here, and go on in closed form."""
    contexts, record, shape = rollouts.contexts, rollouts.record, rollouts.tokens.shape
    flat = torch.Size((shape[0], shape[1] * shape[2], shape[3]))
    # At the policy that sampled, what was recorded is what the policy says now.
    now = record if rollouts.at_sampler else recorded(contexts, rollouts.tokens)
    logits = None
    if "logits" in needs:
        samples = flat.numel() // contexts.entropy.numel()
        each = contexts.logits[:, :, None].expand(-1, -1, samples, -1)
        logits = each.reshape(*flat, -1).clone().requires_grad_()
    return TokenBatch(
        log_prob=now.log_prob.reshape(flat).detach().requires_grad_(),
        old_log_prob=record.log_prob.reshape(flat),
        advantages=advantages,
        mask=record.mask.reshape(flat),
        entropy=now.entropy.reshape(flat).detach().requires_grad_("entropy_gradient" in needs),
        reference_log_prob=reference,
        logits=logits,
        noise=noise,
    )


def on_logits(loss: Tensor, tokens: TokenBatch, rollouts: Rollouts) -> Float[Tensor, "R C V"]:
    """Return the gradient of a loss in the logits of every context.

    From d/d log p_k: g (e_k - p); from d/d H: -g S; from d/d logits: itself. Samples of one context add up.
    """
    contexts = rollouts.contexts
    wanted = [x for x in (tokens.log_prob, tokens.entropy, tokens.logits) if x is not None and x.requires_grad]
    if not loss.requires_grad:
        return torch.zeros_like(contexts.logits)
    found = iter(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))
    of_chosen = contexts.by_context(next(found))
    total = contexts.probs * -of_chosen.sum(-1, keepdim=True)
    total.scatter_add_(-1, contexts.by_context(rollouts.tokens), of_chosen)
    if tokens.entropy.requires_grad:
        total -= contexts.discriminator * contexts.by_context(next(found)).sum(-1, keepdim=True)
    if tokens.logits is not None:
        total += next(found).view(*contexts.entropy.shape, -1, contexts.logits.shape[-1]).sum(-2)
    return total
