"""E1 to E6, the theorems and the bounds: statements on one step of one policy."""

import torch
from torch import Tensor

from entropy_theory.bounds import remainder_bound
from entropy_theory.change import entropy_change, first_order_change, second_order_change, third_order_change
from entropy_theory.chunked import chunked_token_statistics, fused_token_statistics
from entropy_theory.every_token import every_token, sampled_changes
from entropy_theory.expectation import entropy_bonus_change, natural_gradient_change
from entropy_theory.identities.cases import Case, Identity, Order
from entropy_theory.softmax import entropy, policy_of
from entropy_theory.statistics import TokenStatistics, token_statistics
from entropy_theory.theorems import theorem1, theorem2
from entropy_theory.updates import sampled_token_delta

STEP = 0.3


def along(case: Case, order: int) -> Tensor:
    """Return the derivative of the given order of s -> H(softmax(z + s delta)) at 0, by autograd, `[N]`."""
    share = torch.zeros(len(case.logits), dtype=torch.float64, device=case.logits.device, requires_grad=True)
    value = entropy(case.logits + share[:, None] * case.delta)
    for _ in range(order):
        (value,) = torch.autograd.grad(value.sum(), share, create_graph=True)
    return value.detach()


def definition(case: Case) -> Tensor:
    """H less -sum p log p, by torch's own distribution; both lie in [0, log K]."""
    other = torch.distributions.Categorical(logits=case.logits).entropy()
    value = entropy(case.logits)
    outside = (-value).clamp(min=0) + (value - torch.tensor(float(case.arms)).log()).clamp(min=0)
    return (value - other).abs() + outside


def written_hessian(case: Case) -> Tensor:
    """1/2 delta' [p_i p_j (1 + L_i + L_j) - [i = j] p_i (1 + L_i)] delta less the closed form."""
    policy = policy_of(case.logits)
    p, centred = policy.probs, policy.centred
    pairs = p[:, :, None] * p[:, None] * (1 + centred[:, :, None] + centred[:, None])
    form = torch.einsum("ni,nij,nj->n", case.delta, pairs - torch.diag_embed(p * (1 + centred)), case.delta) / 2
    return (form - second_order_change(case.logits, case.delta)).abs()


def sampled(case: Case, size: float = STEP) -> Tensor:
    """Return the step of the case's token."""
    return sampled_token_delta(case.logits, case.token, size)


def influence(case: Case) -> Tensor:
    """First order of the sampled token's step less -a (S_k - N)."""
    found = token_statistics(case.logits, case.token)
    expected = -STEP * (found.discriminator - found.mean_discriminator)
    return (first_order_change(case.logits, sampled(case)) - expected).abs()


def moved_probability(case: Case) -> Tensor:
    """Delta p of Theorem 1 less a p_i ([i = k] - p_i - p_k + n_2)."""
    p = policy_of(case.logits).probs
    own = torch.nn.functional.one_hot(case.token, case.arms).double()
    p_k = p.gather(1, case.token[:, None])
    expected = STEP * p * (own - p - p_k + p.square().sum(-1, keepdim=True))
    return (theorem1(case.logits, case.token, sampled(case)).delta_p - expected).abs().amax(-1)


def baseline_form(case: Case) -> Tensor:
    """E5's -delta p_k (log p_k - sum w_i log p_i) less the first order, and delta p_k (sum w - 1)."""
    found = theorem1(case.logits, case.token, sampled(case))
    log_probs = policy_of(case.logits).log_probs
    index = case.token[:, None]
    spread = log_probs.gather(1, index) - log_probs
    # sum w = 1 lets the baseline be taken relative to log p_k: masked arms have weight 0.
    gap = (found.weights * spread.masked_fill(found.weights == 0, 0.0)).sum(-1)
    delta_p = found.delta_p.gather(1, index)[:, 0]
    rest = (found.weights.sum(-1) - 1) * delta_p
    return (-delta_p * gap - first_order_change(case.logits, sampled(case))).abs() + rest.abs()


def condition_is_sign(case: Case) -> Tensor:
    """1 where Theorem 1's condition and the sign of delta p_k times the change disagree beyond rounding."""
    found = theorem1(case.logits, case.token, case.delta)
    product = first_order_change(case.logits, case.delta) * found.delta_p.gather(1, case.token[:, None])[:, 0]
    log_p = policy_of(case.logits).log_probs.gather(1, case.token[:, None])[:, 0]
    above = log_p > found.output_space_baseline
    clear = (product.abs() > 1e-12) & ((log_p - found.output_space_baseline).abs() > 1e-9)
    return (clear & ((above != (product < 0)) | (found.condition != above))).double()


def condition_needs_mass(case: Case) -> Tensor:
    """1 where the condition holds for a sampled token's step although p_k <= n_2."""
    p_k = policy_of(case.logits).probs.gather(1, case.token[:, None])[:, 0]
    found = token_statistics(case.logits, case.token)
    condition = theorem1(case.logits, case.token, sampled(case)).condition
    return (condition & (p_k < found.collision * (1 - 1e-9))).double()


def effective_mean(case: Case) -> Tensor:
    """Theorem 2's -delta p_y (log P - B) less the summed first order, relative to the tokens' terms."""
    found = theorem2(case.logits, case.token, sampled(case))
    tokens = found.tokens.change.abs().sum()
    product = -found.effective_delta_p * (found.log_prob - found.sequence_baseline)
    return ((product - found.change) / tokens).abs()[None]


def all_tokens(case: Case) -> Tensor:
    """Influence and baseline of the case's token out of those of every token, less Theorem 1's, relative to 1 + |b|."""
    found, index = every_token(case.logits), case.token[:, None]
    one = theorem1(case.logits, case.token, sampled(case, 1.0))
    baseline = found.baseline.gather(1, index)[:, 0]
    apart = (baseline - one.output_space_baseline) / (1 + baseline.abs())
    return (found.influence.gather(1, index)[:, 0] + one.change).abs() + apart.abs()


def all_changes(case: Case) -> Tensor:
    """Exact change of the case's token out of those of every token, less the change of its step."""
    found = sampled_changes(case.logits, STEP).gather(1, case.token[:, None])[:, 0]
    return (found - entropy_change(case.logits, sampled(case))).abs()


def natural(case: Case) -> Tensor:
    """E6's -a L_k less the first order of the step a e_k / p_k."""
    p_k = policy_of(case.logits).probs.gather(1, case.token[:, None])
    step = STEP * torch.nn.functional.one_hot(case.token, case.arms).double() / p_k
    return (natural_gradient_change(case.logits, case.token, STEP) - first_order_change(case.logits, step)).abs()


def discriminator_sign(case: Case) -> Tensor:
    """1 where the sign of S_k is not that of p_k - exp(-H)."""
    policy = policy_of(case.logits)
    margin = policy.probs - (-policy.entropy).exp()[:, None]
    wrong = (margin * policy.discriminator < 0) & (margin.abs() > 1e-12)
    return wrong.any(-1).double()


def bonus(case: Case) -> Tensor:
    """Alpha eta sum S^2 less the first order of the step -alpha eta S; negative values count too."""
    change = entropy_bonus_change(case.logits, 0.5, 0.2)
    step = -0.1 * policy_of(case.logits).discriminator
    return (change - first_order_change(case.logits, step)).abs() + (-change).clamp(min=0)


def beyond_bound(case: Case) -> Tensor:
    """Excess of both orders' errors over their bounds, for steps of many sizes, relative to |step|^2."""
    worst = []
    for size in (1e-3, 1e-2, 0.1, 1.0, 10.0):
        delta = size * case.delta
        bound = remainder_bound(case.logits, delta)
        rest = entropy_change(case.logits, delta) - first_order_change(case.logits, delta)
        further = rest - second_order_change(case.logits, delta)
        excess = torch.maximum(rest.abs() - bound.first_order, further.abs() - bound.second_order)
        worst.append(excess / max(1.0, size**2))
    return torch.stack(worst).amax(0).clamp(min=0)


def difference(found: TokenStatistics, other: TokenStatistics) -> Tensor:
    """Return the largest difference of two sets of statistics, H on the scale max(H, 1e-2), log p_k on max(|l|, 1)."""
    scales = {"entropy": other.entropy.clamp(min=1e-2), "log_prob": other.log_prob.abs().clamp(min=1)}
    errors = [(getattr(found, name) - value).abs() / scales.get(name, 1.0) for name, value in vars(other).items()]
    return torch.stack(errors).amax(0)


def in_blocks(case: Case) -> Tensor:
    """Chunked statistics less plain ones."""
    plain = token_statistics(case.logits, case.token)
    return difference(chunked_token_statistics(case.logits, case.token, block=7), plain)


def in_single(case: Case) -> Tensor:
    """Chunked statistics of float32 logits less the float64 ones of the same logits."""
    single = case.logits.float()
    return difference(
        chunked_token_statistics(single, case.token, block=64), token_statistics(single.double(), case.token)
    )


def fused(case: Case) -> Tensor:
    """Fused statistics less plain ones of the same product."""
    hidden, weight = case.delta[:, :2], case.advantages.T[:, :8].contiguous()
    hidden = torch.cat([hidden] * 4, -1)
    return difference(
        fused_token_statistics(hidden, weight, case.token, block=7), token_statistics(hidden @ weight.T, case.token)
    )


def left_out(case: Case, size: float, orders: int, delta: Tensor) -> Tensor:
    """Return the exact change of a step less its terms up to an order."""
    terms = (first_order_change, second_order_change, third_order_change)[:orders]
    exact = entropy_change(case.logits, size * delta)
    return exact - sum(term(case.logits, size * delta) for term in terms)


EQUALITIES = (
    Identity("E1", "H = -sum p log p, within [0, log K]", definition),
    Identity("E2", "first order = slope of H along the step (autograd)", lambda case: (
        first_order_change(case.logits, case.delta) - along(case, 1)).abs()),
    Identity("E3", "second order = half its curvature (autograd)", lambda case: (
        second_order_change(case.logits, case.delta) - along(case, 2) / 2).abs()),
    Identity("E3", "Hessian = p_i p_j (1 + L_i + L_j) - [i=j] p_i (1 + L_i)", written_hessian),
    Identity("third", "third order = a sixth of its third derivative (autograd)", lambda case: (
        third_order_change(case.logits, case.delta) - along(case, 3) / 6).abs(), 1e-9),
    Identity("E4", "sampled token: first order = -a (S_k - N)", influence),
    Identity("E4", "delta p_i = a p_i ([i=k] - p_i - p_k + n_2)", moved_probability),
    Identity("E5", "first order = -delta p_k (log p_k - sum w_i log p_i), sum w = 1", baseline_form),
    Identity("E5", "condition <=> change opposite to delta p_k, for any step", condition_is_sign, 0.0),
    Identity("E5", "condition => p_k > n_2, for a sampled token's step", condition_needs_mass, 0.0),
    Identity("E5", "every token at once = Theorem 1 token by token", all_tokens, 1e-8),
    Identity("E1", "exact change of every token at once = token by token", all_changes),
    Identity("Thm 2", "change = -effective delta p_y (log P - baseline)", effective_mean),
    Identity("E6", "natural gradient: first order of a e_k / p_k = -a L_k", natural),
    Identity("T5", "sign of S_k = sign of p_k - exp(-H)", discriminator_sign, 0.0),
    Identity("T9", "entropy bonus = first order of -alpha eta S, never negative", bonus),
    Identity("bound", "|exact - first|, |exact - first - second| within bounds", beyond_bound, 1e-11),
    Identity("blocks", "chunked statistics = plain ones", in_blocks),
    Identity("blocks", "fused statistics = plain ones", fused),
    Identity("blocks", "chunked in float32 = float64", in_single, 2e-6),
)  # fmt: skip

ORDERS = (
    Order("E2", "exact - first, any step", lambda case, size: left_out(case, size, 1, case.delta), 2),
    Order("E3", "exact - first - second, any step", lambda case, size: left_out(case, size, 2, case.delta), 3, 0.15),
    Order("third", "exact - first - second - third, any step", lambda case, size: left_out(
        case, size, 3, case.delta), 4, 0.2, tuple(2.0**-n for n in range(5, 8))),
    Order("E4", "exact - first, sampled token", lambda case, size: left_out(case, size, 1, sampled(case, 1.0)), 2),
    Order("E4", "exact - first - second, sampled token", lambda case, size: left_out(
        case, size, 2, sampled(case, 1.0)), 3, 0.15, tuple(2.0**-n for n in range(5, 9))),
)  # fmt: skip
