"""Entropy change of a network's step in parameter space: the directional terms of E7, for any optimiser.

A parameter vector is a sequence of tensors, one a parameter. With g = gradient of H in the parameters and step v,
Delta H = <g, v> + 1/2 v' (Hessian of H) v + O(|v|^3).
"""

from collections.abc import Sequence

from torch import Tensor


def first_order_along(gradient: Sequence[Tensor], step: Sequence[Tensor]) -> float:
    """Return <gradient of H, step>: the first-order entropy change of a parameter step, in the gradient's units.

    Exact at first order whatever the optimiser did to make the step. Summed in float64.

    Valid to O(|step|^2).

    Args:
        gradient: the gradient of the entropy (nats), one tensor a parameter.
        step: the change of each parameter, of the same shapes.

    Raises:
        ValueError: different numbers of tensors.

    Source: E7, the chain rule.

    >>> import torch
    >>> first_order_along([torch.tensor([1.0, 2.0])], [torch.tensor([0.5, -1.0])])
    -1.5
    """
    return float(sum((g.double() * v.double()).sum() for g, v in zip(gradient, step, strict=True)))


def second_order_along(
    ahead: Sequence[Tensor], behind: Sequence[Tensor], step: Sequence[Tensor], epsilon: float
) -> float:
    """Return 1/2 v' (Hessian of H) v from the gradients at theta + epsilon v and theta - epsilon v.

    A central difference: its error is O(epsilon^2 |v|^4), and it needs no second derivative of the attention kernel.

    Args:
        ahead: gradient of the entropy at theta + epsilon v.
        behind: gradient of the entropy at theta - epsilon v.
        step: v, the change of each parameter.
        epsilon: the share of the step at which the gradients were taken.

    Source: E7; derivative of E2 along the step.

    >>> import torch
    >>> v = [torch.tensor([1.0])]  # H = theta^2 / 2 at theta = 0: gradient is theta
    >>> round(second_order_along([torch.tensor([0.1])], [torch.tensor([-0.1])], v, 0.1), 6)
    0.5
    """
    return (first_order_along(ahead, step) - first_order_along(behind, step)) / (4 * epsilon)
