"""The entropy ledger: what a step's measured change of entropy is made of.

The measured change is that of the mean entropy of a token over all prompts, on the contexts of the policy before the
step, by enumeration. It is split into causes, each with its own definition; what they leave is `unexplained`. With H
that entropy, grad H its gradient, e the rate at which SGD's step comes nearest to the one taken (SGD's own learning
rate; for Adam <step, gradient> / |gradient|^2), and rows weighed by one over their denominators d:

    covariance      expected change if each context owned its logits, at first order: -e sum d(s) w(s) Cov_p(Q, S),
                    Q the expected advantage of a token given its prefix, w(s) the context's weight in H (X1)
    sampling        the same of the tokens drawn: -e sum_u A_u / d_u (S_u - N_u) w(s_u) (E4), minus the covariance
    selection       what shaping, filter weights and the denominator over the accepted change in that sum
    shared          <grad H, that update's step at the first policy> minus that sum: parameters that contexts share
    terms           <grad H, step of the loss terms and the bonus at the first policy>
    clip_and_reuse  <grad H, sum of the SGD steps asked for> minus the two steps above: the importance ratio, clip rule,
                    token weights, mini-batches and further passes
    optimizer       <grad H, step taken> minus <grad H, sum of the SGD steps asked for>
    second_order    1/2 step' (Hessian of H) step
    unexplained     measured minus all of the above: third order and higher

The change of the entropy of the policy on its own contexts is `measured` plus `context_shift`.
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from simulations.exact import ExactAdvantages, Tree, expected_advantages, policy_gradient, tree_of
from simulations.loop import Setting, Trace, at_parameters, leaves, on_logits
from simulations.optimizers import along
from simulations.policies import Parameters
from simulations.rollouts import Rollouts
from trainer.methods.pipeline import mean_loss, mini_batch_rows, weighted_advantages
from trainer.methods.stages import Clipped, Filtered, Mean, Stateless, TokenBatch

NOT_CAUSES = ("measured", "context_shift", "rate")


@dataclass(frozen=True)
class Ledger:
    """A step's change of entropy and its causes, `[R]`, nats per token.

    Args:
        measured: change on the contexts of the policy before the step, exact.
        covariance: expected by the advantages, contexts owning their logits.
        sampling: of the samples drawn.
        selection: of shaping, filter and denominator.
        shared: of parameters that contexts share.
        terms: of loss terms and entropy bonus.
        clip_and_reuse: of ratios, clip rule, token weights, mini-batches and further passes.
        optimizer: of what the optimiser makes of the gradients.
        second_order: curvature along the step.
        unexplained: the rest.
        context_shift: change of the entropy on the policy's own contexts, minus `measured`.
        rate: the rate of the SGD step that the causes are of.
    """

    measured: Float[Tensor, "R"]
    covariance: Float[Tensor, "R"]
    sampling: Float[Tensor, "R"]
    selection: Float[Tensor, "R"]
    shared: Float[Tensor, "R"]
    terms: Float[Tensor, "R"]
    clip_and_reuse: Float[Tensor, "R"]
    optimizer: Float[Tensor, "R"]
    second_order: Float[Tensor, "R"]
    unexplained: Float[Tensor, "R"]
    context_shift: Float[Tensor, "R"]
    rate: Float[Tensor, "R"]

    @property
    def causes(self) -> dict[str, Float[Tensor, "R"]]:
        """All that sums to `measured`, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in NOT_CAUSES}

    @property
    def own_contexts(self) -> Float[Tensor, "R"]:
        """Change of the entropy on the policy's own contexts, which a training curve shows."""
        return self.measured + self.context_shift


@torch.enable_grad()
def ledger(setting: Setting, trace: Trace, *, exact_advantages: ExactAdvantages | None = None) -> Ledger:
    """Return a step's ledger.

    Args:
        setting: of the simulation.
        trace: of the step; `Simulation(..., trace=True)` keeps it.
        exact_advantages: rewards and probabilities of all responses -> expected advantage of each; by default
            `exact.expected_advantages` of the setting's estimator, or what an exact gradient was taken of.

    Source: theory of the per-step change: X1 and E4 for the first two causes, E7 for the rest.
    """
    policy, before, after = setting.policy, trace.before.parameters, trace.after.parameters
    with torch.no_grad():
        old, new = tree_of(policy, before), tree_of(policy, after)
        measured = new.entropy(old.reach) - old.entropy()
        own = new.entropy() - old.entropy()
        rewards = setting.problem.table(len(measured), trace.rollouts.rewards)
        values = exact_values(setting, rewards, old.probabilities, exact_advantages)
    taken = difference(after, before)
    slope, curvature = slope_and_curvature(setting, before, old, taken)
    downhill = sum_of_passes(trace)
    rate = matched_rate(taken, downhill, trace.learning_rate)
    split = exact_causes if setting.exact_gradient else sampled_causes
    causes = split(setting, trace, old, values, slope, rate)
    along_asked, along_taken = rate * inner(slope, downhill), inner(slope, taken)
    causes |= {
        "clip_and_reuse": along_asked - total(causes),
        "optimizer": along_taken - along_asked,
        "second_order": curvature,
    }
    rest = measured - total(causes)
    return Ledger(measured=measured, **causes, unexplained=rest, context_shift=own - measured, rate=rate)


def sum_of_passes(trace: Trace) -> Parameters:
    """Return minus the sum of the gradients of a step's passes: the SGD step asked for, at a rate of 1."""
    asked = {name: torch.zeros_like(value) for name, value in trace.before.parameters.items()}
    for each in trace.passes:
        downhill = scaled(each.gradients, -each.active.to(trace.learning_rate))
        asked = {name: asked[name] + value for name, value in downhill.items()}
    return asked


def matched_rate(taken: Parameters, asked: Parameters, learning_rate: Float[Tensor, "R"]) -> Float[Tensor, "R"]:
    """Return the rate at which the SGD step comes nearest to the step taken: <taken, asked> / |asked|^2.

    For SGD it is the learning rate; for Adam it takes the size of its steps out of the optimiser's cause, which keeps
    their direction alone. Where nothing was asked for it is the learning rate.
    """
    size = inner(asked, asked)
    return torch.where(size > 0, inner(taken, asked) / size.clamp(min=torch.finfo(size.dtype).tiny), learning_rate)


def exact_values(
    setting: Setting,
    rewards: Float[Tensor, "R P Y"],
    probabilities: Float[Tensor, "R P Y"],
    given: ExactAdvantages | None,
) -> Float[Tensor, "R P Y"]:
    """Return the expected advantage of every response."""
    chosen = given or (setting.exact_advantages if setting.exact_gradient else None)
    if chosen is not None:
        return chosen(rewards, probabilities)
    if setting.exact_gradient:
        return rewards
    return expected_advantages(setting.algorithm.advantage, rewards, probabilities, setting.group_size)


def slope_and_curvature(
    setting: Setting, parameters: Parameters, old: Tree, step: Parameters
) -> tuple[Parameters, Float[Tensor, "R"]]:
    """Return the gradient of the entropy on the old contexts, and 1/2 step' (its Hessian) step."""
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    entropy = tree_of(setting.policy, leaves).entropy(old.reach)
    names, inputs = list(leaves), list(leaves.values())
    slope = torch.autograd.grad(entropy.sum(), inputs, create_graph=True, allow_unused=True, materialize_grads=True)
    along_step = inner(dict(zip(names, slope, strict=True)), step)
    product = torch.autograd.grad(along_step.sum(), inputs, allow_unused=True, materialize_grads=True)
    curvature = inner(dict(zip(names, product, strict=True)), step) / 2
    return {name: value.detach() for name, value in zip(names, slope, strict=True)}, curvature


def exact_causes(
    setting: Setting,
    trace: Trace,
    old: Tree,
    values: Float[Tensor, "R P Y"],
    slope: Parameters,
    rate: Float[Tensor, "R"],
) -> dict[str, Float[Tensor, "R"]]:
    """Return the causes of a step along an expected gradient: nothing is sampled or selected."""
    _, uphill = policy_gradient(setting.policy, trace.before.parameters, values)
    per_row = values.new_full(values.shape[:2], 1 / (setting.policy.prompts * setting.policy.length))
    covariance = rate * expected_influence(old, values, per_row)
    along = inner(slope, scaled(uphill, rate))
    none = torch.zeros_like(along)
    return {
        "covariance": covariance,
        "sampling": none,
        "selection": none,
        "shared": along - covariance,
        "terms": none,
    }


def sampled_causes(
    setting: Setting,
    trace: Trace,
    old: Tree,
    values: Float[Tensor, "R P Y"],
    slope: Parameters,
    rate: Float[Tensor, "R"],
) -> dict[str, Float[Tensor, "R"]]:
    """Return the causes at first order of the first pass over a batch, as if all of it were taken at the old policy."""
    rollouts, algorithm = trace.rollouts, setting.algorithm
    record = rollouts.record
    repeats, prompts = values.shape[:2]
    weights = trace.filtered.weights.flatten(-2)
    plain = weighted_advantages(
        Filtered(torch.ones_like(rollouts.rewards), algorithm.advantage(rollouts.rewards)), record.mask
    )
    plain_per_row = 1 / row_denominators(setting, record.lengths.flatten(-2), torch.ones_like(weights))
    chosen = weighted_advantages(trace.filtered, record.mask)
    chosen_per_row = 1 / row_denominators(setting, record.lengths.flatten(-2), weights)

    # Each row's own prompt, or any of them where prompts are drawn.
    if isinstance(rollouts.prompts, slice):
        per_row = plain_per_row.unflatten(-1, rollouts.rewards.shape[1:]).sum(-1)
    else:
        per_row = (plain_per_row.sum(-1, keepdim=True) / prompts).expand(repeats, prompts)
    covariance = rate * expected_influence(old, values, per_row)

    influence = token_influence(rollouts, old)
    of_all = rate * (plain * plain_per_row[..., None] * influence).sum((-2, -1))
    of_chosen = rate * (chosen * chosen_per_row[..., None] * influence).sum((-2, -1))
    on_policy = pulled(rollouts, chosen * chosen_per_row[..., None])
    first_step = inner(slope, scaled(on_policy, rate))
    return {
        "covariance": covariance,
        "sampling": of_all - covariance,
        "selection": of_chosen - of_all,
        "shared": first_step - of_chosen,
        "terms": rate * inner(slope, scaled(terms_gradient(setting, trace, chosen, weights), -torch.ones_like(rate))),
    }


def row_denominators(
    setting: Setting, lengths: Int[Tensor, "R B"], weights: Float[Tensor, "R B"]
) -> Float[Tensor, "R B"]:
    """Return the denominator of each row, mini-batch by mini-batch."""
    parts = [
        setting.algorithm.denominator(lengths[:, rows], weights[:, rows]).tokens
        for rows in mini_batch_rows(weights.shape[-1], setting.group_size, setting.mini_batches)
    ]
    return torch.cat(parts, -1).to(weights)


def expected_influence(old: Tree, values: Float[Tensor, "R P Y"], per_row: Float[Tensor, "R P"]) -> Float[Tensor, "R"]:
    """Return -sum d(s) w(s) Cov_p(Q, S) with w(s) = d(s) / (P T), prompts weighed by what a row of theirs counts."""
    found = torch.zeros_like(per_row)
    for log_probs, reach, q, s in zip(
        old.log_probs, old.reach, old.action_values(values), old.discriminators(), strict=True
    ):
        p = log_probs.exp()
        covariance = (p * (q - (p * q).sum(-1, keepdim=True)) * s).sum(-1)
        found = found - (reach.square() * covariance).sum(-1)
    return (found * per_row).sum(-1) / (per_row.shape[-1] * old.length)


def token_influence(rollouts: Rollouts, old: Tree) -> Float[Tensor, "R B T"]:
    """Return w(s) (N - S_k) of each sampled token, with w(s) = d(s) / (P T)."""
    contexts, tokens = rollouts.contexts, rollouts.tokens
    s = contexts.discriminator
    own = ((contexts.probs * s).sum(-1, keepdim=True) - s).gather(-1, contexts.by_context(tokens)).view(tokens.shape)
    log_prob = rollouts.record.log_prob
    reach = (log_prob.cumsum(-1) - log_prob).exp()
    return (own * reach / (old.reach[0].shape[1] * old.length)).flatten(1, 2)


def pulled(rollouts: Rollouts, coefficients: Float[Tensor, "R B T"]) -> Parameters:
    """Return the gradient of sum_u coefficient_u log p_u at the policy that sampled."""
    contexts = rollouts.contexts
    each = contexts.by_context(coefficients)
    on_policy = -contexts.probs * each.sum(-1, keepdim=True)
    return contexts.pullback(on_policy.scatter_add(-1, contexts.by_context(rollouts.tokens), each))


def terms_gradient(
    setting: Setting, trace: Trace, advantages: Float[Tensor, "R B T"], weights: Float[Tensor, "R B"]
) -> Parameters:
    """Return the gradient of the loss terms and the bonus at the policy that sampled."""
    rollouts, bonus = trace.rollouts, trace.filtered.bonus
    zero = {name: torch.zeros_like(value) for name, value in trace.before.parameters.items()}
    if not setting.algorithm.terms and bonus is None:
        return zero
    algorithm = replace(setting.algorithm, clip=Stateless(no_objective), token_weight=None)
    needs = algorithm.needs | ({"entropy_gradient"} if bonus is not None else set())
    reference = noise = None
    if "reference" in needs:
        first = at_parameters(setting.policy, trace.reference, rollouts)
        reference = first.contexts.chosen(rollouts.tokens).flatten(1, 2)
    if "noise" in needs:
        noise = torch.full_like(advantages, 0.5)
    tokens = leaves(rollouts, advantages, needs, reference, noise)
    loss = algorithm.surrogate(trace.before.states, tokens, bonus).loss
    mean = Mean(
        torch.ones_like(weights, dtype=torch.bool),
        row_denominators(setting, rollouts.record.lengths.flatten(-2), weights),
    )
    return rollouts.contexts.pullback(on_logits(mean_loss(loss, mean).sum(), tokens, rollouts))


def no_objective(tokens: TokenBatch) -> Clipped:
    """Return an objective of 0."""
    none = torch.zeros_like(tokens.mask)
    return Clipped(0 * tokens.log_prob, none, none)


def difference(after: Parameters, before: Parameters) -> Parameters:
    """Return the step between two sets of parameters."""
    return {name: after[name] - before[name] for name in before}


def scaled(values: Parameters, factor: Float[Tensor, "R"]) -> Parameters:
    """Return values times one number a repeat."""
    return {name: value * along(factor, value) for name, value in values.items()}


def inner(a: Parameters, b: Parameters) -> Float[Tensor, "R"]:
    """Return the inner product of two sets of parameters, a repeat."""
    parts = [(a[name] * b[name]).flatten(1).sum(-1) for name in a]
    return torch.stack(parts).sum(0)


def total(causes: dict[str, Float[Tensor, "R"]]) -> Float[Tensor, "R"]:
    """Return the sum of causes."""
    return torch.stack(list(causes.values())).sum(0)
