"""Expected entropy change over on-policy samples: the covariance term, the sampling drift, and single-sample forms."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from entropy_theory import validation
from entropy_theory.change import second_order_change, stepped
from entropy_theory.softmax import Softmax, policy_of


def expected_change(
    logits: Float[Tensor, "*batch K"],
    advantages: Float[Tensor, "*batch K"],
    learning_rate: float,
    group_size: int = 1,
    order: Literal[1, 2] = 1,
) -> Float[Tensor, "*batch"]:
    """Return the expected entropy change of one policy-gradient step on G on-policy samples, in nats.

    First order: -eta Cov_p(a, S); a constant advantage moves nothing. Second order adds
    eta^2/2 <Hessian, (1 - 1/G) g g' + (1/G) E_y[a_y^2 (e_y - p)(e_y - p)']>, g = p (a - E_p a): the curvature along the
    mean step, and the sampling drift, which does not vanish for a constant advantage.

    Valid to O(eta^2), or O(eta^3) at order 2; the step is eta/G sum a_y (e_y - p), each context owning its logits.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        advantages: a, one value an arm, `[*batch, K]`.
        learning_rate: eta, above 0.
        group_size: G, samples averaged in a step.
        order: 1 or 2.

    Returns:
        `[*batch]`, nats.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a learning rate that is not above 0, a group size below 1, another order, a row without a
            distribution, or advantages of another shape or not finite on arms with mass.

    Source: X1 and X4; first order: Cui et al. 2025, arXiv 2505.22617, Theorem 1, with a centred.

    >>> import torch
    >>> z = torch.tensor([1.0, 0.0, 0.0])
    >>> round(expected_change(z, torch.tensor([1.0, 0.0, 0.0]), 0.1).item(), 6)  # rewarding the likeliest lowers it
    -0.008946
    """
    validation.positive("expected_change", "learning_rate", learning_rate)
    if group_size < 1 or order not in (1, 2):
        raise ValueError(
            f"expected_change(group_size={group_size}, order={order}) must have group_size >= 1, order 1 or 2."
        )
    policy, advantages = stepped("expected_change", logits, advantages, "advantages")
    first = -policy.mean(policy.centre(advantages) * policy.discriminator)
    if order == 1:
        return learning_rate * first
    mean_step = policy.probs * policy.centre(advantages)
    along_mean = second_order_change(logits, mean_step)
    noise = policy.mean(advantages.square() * sampled_curvature(policy)) / 2
    return learning_rate * first + learning_rate**2 * ((1 - 1 / group_size) * along_mean + noise / group_size)


def sampled_curvature(policy: Softmax) -> Float[Tensor, "*batch K"]:
    """Return (e_y - p)' Hessian (e_y - p) for every arm y, `[*batch, K]`, nats.

    With c = n_2 - p_y, T = sum_i p_i^3 (1 + L_i) and N = sum p^2 L:
    -[p_y (1 + 2 c - 2 p_y)(1 + L_y) + c^2 - 2 c (n_2 + N) + T].

    Source: E3 at v = e_y - p, whose mean under p is p_y - n_2.
    """
    p, centred = policy.probs, policy.centred
    collision = policy.mean(p)[..., None]
    mean_discriminator = policy.mean(policy.discriminator)[..., None]
    third = policy.mean(p.square() * (1 + centred))[..., None]
    c = collision - p
    own = p * (1 + 2 * c - 2 * p) * (1 + centred)
    return -(own + c.square() - 2 * c * (collision + mean_discriminator) + third)


def drift_coefficient(logits: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """Return D(p): sampling noise with a^2 = 1 changes entropy by (eta^2 / 2G) D(p) a step, whatever the sign of a.

    D = -n_2 - sum p^2 L + 2 sum p^3 + 3 sum p^3 L - n_2^2 - 2 n_2 sum p^2 L. Negative at high entropy, like genetic
    drift; of either sign below about 1 nat.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.

    Returns:
        `[*batch]`, nats.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a row without a distribution.

    Source: X4's noise term.

    >>> import torch
    >>> round(drift_coefficient(torch.zeros(4)).item(), 4)
    -0.1875
    """
    policy = policy_of(logits, "drift_coefficient")
    p = policy.probs
    collision, squares = policy.mean(p), policy.mean(policy.discriminator)
    cubes, cubes_centred = policy.mean(p.square()), policy.mean(p * policy.discriminator)
    return -collision - squares + 2 * cubes + 3 * cubes_centred - collision.square() - 2 * collision * squares


def natural_gradient_change(
    logits: Float[Tensor, "*batch K"], token: Int[Tensor, "*batch"], step: float
) -> Float[Tensor, "*batch"]:
    """Return the first-order entropy change of a natural-gradient step on one sampled token, in nats: -step L_k.

    delta z = step e_k / p_k, so tokens less likely than exp(-H) raise entropy when pushed up, likelier ones lower it.

    Valid to O((step / p_k)^2), which is large for rare tokens.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        token: k, `[*batch]`; not a masked one.
        step: learning rate times advantage.

    Raises:
        TypeError: logits that are not floating-point, or tokens that are no integers.
        ValueError: a row without a distribution, a token outside the vocabulary or masked, a wrong shape, or a step
            not finite.

    Source: E6; the AEM theorem at response level.

    >>> import torch
    >>> natural_gradient_change(torch.tensor([0.0, 0.0]), torch.tensor(0), 0.1).item()
    -0.0
    """
    policy = policy_of(logits, "natural_gradient_change")
    index = validation.sampled_index("natural_gradient_change", token, logits)
    validation.finite("natural_gradient_change", "step", step)
    return -step * policy.centred.gather(-1, index)[..., 0]


def expected_natural_gradient_change(
    logits: Float[Tensor, "*batch K"], advantages: Float[Tensor, "*batch K"], learning_rate: float
) -> Float[Tensor, "*batch"]:
    """Return -eta Cov_p(log p, a): the first-order entropy change of an exact natural-gradient step, in nats.

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        advantages: a, one value an arm, `[*batch, K]`.
        learning_rate: eta, above 0.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a learning rate that is not above 0, a row without a distribution, or advantages of another shape
            or not finite on arms with mass.

    Source: Cui et al. 2025, arXiv 2505.22617, Theorem 2; X1.

    >>> import torch
    >>> expected_natural_gradient_change(torch.zeros(2), torch.tensor([1.0, 0.0]), 0.1).item()
    -0.0
    """
    validation.positive("expected_natural_gradient_change", "learning_rate", learning_rate)
    policy, advantages = stepped("expected_natural_gradient_change", logits, advantages, "advantages")
    return -learning_rate * policy.mean(policy.centred * policy.centre(advantages))


def entropy_bonus_change(
    logits: Float[Tensor, "*batch K"], coefficient: float, learning_rate: float
) -> Float[Tensor, "*batch"]:
    """Return the first-order entropy change of one gradient step on an entropy bonus, in nats: alpha eta sum S^2.

    delta z = -alpha eta S, hence alpha eta E_p[p L^2], never negative.

    Valid to O((alpha eta)^2).

    Args:
        logits: z, `[*batch, K]`; -inf masks an arm.
        coefficient: alpha, the bonus's weight.
        learning_rate: eta, above 0.

    Raises:
        TypeError: logits that are not floating-point.
        ValueError: a learning rate that is not above 0, a coefficient not finite, or a row without a distribution.

    Source: the square of E2's gradient (a published form with Var(log p) in its place holds near determinism only).

    >>> import torch
    >>> entropy_bonus_change(torch.zeros(3), 0.1, 1.0).item()
    0.0
    """
    validation.positive("entropy_bonus_change", "learning_rate", learning_rate)
    validation.finite("entropy_bonus_change", "coefficient", coefficient)
    policy = policy_of(logits, "entropy_bonus_change")
    return coefficient * learning_rate * policy.discriminator.square().sum(-1)
