"""Entropy change of a network's step in parameter space: the directional terms of E7, for any optimiser.

With g = gradient of H in the parameters and step v, Delta H = <g, v> + 1/2 v' (Hessian of H) v + O(|v|^3). H is
whatever scalar the caller forms from the network's logits (a mean over fixed contexts, as a rule), so nothing here
depends on an architecture.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from entropy_theory import validation

EntropyOf = Callable[[nn.Module], Tensor | Iterable[Tensor]]


@dataclass(frozen=True)
class DirectionalChange:
    """The entropy change of a network along a parameter step, in the units of the entropy given (nats).

    Args:
        first_order: <gradient of H, step>.
        second_order: 1/2 step' (Hessian of H) step; None where it was not asked for.
    """

    first_order: float
    second_order: float | None


def directional_change(
    model: nn.Module,
    step: Mapping[str, Tensor],
    entropy_of: EntropyOf,
    *,
    second_order: Literal["none", "hessian", "difference"] = "none",
    epsilon: float = 0.1,
) -> DirectionalChange:
    """Return the entropy change of a network along a parameter step, to first and on demand to second order.

    The first order costs one backward pass and is exact for any architecture and any optimiser: only the step counts,
    not how it was made. The second order is a Hessian-vector product (`hessian`: exact; runs attention by its plain
    formula, as the fused kernels have no second derivative) or a central difference of two gradients (`difference`: any
    kernel, error O(epsilon^2 |step|^4); an epsilon too small for the float type loses digits to rounding).

    Valid to O(|step|^2), or O(|step|^3) with the second order. The model is left as it was, to the last bit, and its
    `.grad` fields are not touched; call it in evaluation mode, so that dropout does not differ between passes.

    Args:
        model: the network, at the weights before the step.
        step: the change of each parameter by its name, shaped like it; parameters not named do not move.
        entropy_of: model -> the entropy, a scalar in nats; or parts of it one at a time, whose sum it is (micro-batches
            that each carry their share), so that no two parts' graphs are held at once.
        second_order: whether and how the second order is taken.
        epsilon: share of the step at which the gradients of `difference` are taken.

    Raises:
        ValueError: a name that is no parameter, a step of another shape or not finite, an empty step, an epsilon that
            is not above 0, or an entropy that is no scalar.

    Source: E7, the chain rule; second derivative of H along the step.

    >>> from entropy_theory import entropy
    >>> model = nn.Linear(1, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> step = {"weight": torch.tensor([[0.2], [0.0]])}
    >>> change = directional_change(model, step, lambda m: entropy(m(torch.ones(1))), second_order="hessian")
    >>> round(change.first_order, 4), round(change.second_order, 4)  # uniform over two arms: 0 - 0.2^2 / 8
    (0.0, -0.005)
    """
    named = dict(model.named_parameters())
    checked_step(step, named)
    validation.positive("directional_change", "epsilon", epsilon)
    parameters, along = [named[name] for name in step], list(step.values())
    first = first_order_along(gradient_of(parts_of(entropy_of, model), parameters), along)
    if second_order == "none":
        return DirectionalChange(first, None)
    if second_order == "hessian":
        with sdpa_kernel(SDPBackend.MATH):
            return DirectionalChange(first, curvature_along(parts_of(entropy_of, model), parameters, along))
    if second_order != "difference":
        raise ValueError(
            f"directional_change(second_order={second_order!r}) must be 'none', 'hessian' or 'difference'."
        )
    ends = []
    for share in (epsilon, -epsilon):
        moved = [parameter.detach() + share * v for parameter, v in zip(parameters, along, strict=True)]
        with parameters_set_to(parameters, moved):
            ends.append(gradient_of(parts_of(entropy_of, model), parameters))
    ahead, behind = ends
    return DirectionalChange(first, second_order_along(ahead, behind, along, epsilon))


def checked_step(step: Mapping[str, Tensor], named: Mapping[str, nn.Parameter]) -> None:
    """Refuse a step that does not fit the model's parameters."""
    unknown = sorted(set(step) - set(named))
    if unknown or not step:
        raise ValueError(
            "directional_change(step) must name parameters of the model, and at least one; got "
            f"{unknown[:5] or 'none'}. Take the names from model.named_parameters()."
        )
    for name, value in step.items():
        validation.like("directional_change", f"step[{name!r}]", value, named[name], "the parameter")
        validation.finite("directional_change", f"step[{name!r}]", value)


def parts_of(entropy_of: EntropyOf, model: nn.Module) -> Iterator[Tensor]:
    """Yield the parts of the entropy; a single scalar is its only part."""
    found = entropy_of(model)
    for part in (found,) if isinstance(found, Tensor) else found:
        if part.numel() != 1:
            raise ValueError(
                f"directional_change(entropy_of) must give scalars; got shape {list(part.shape)}. Take the mean."
            )
        yield part.squeeze()


def gradient_of(parts: Iterable[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of a sum of scalars, one backward pass a part; zeros where a parameter takes no part.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> gradient_of((w[i] ** 2 for i in range(2)), [w])
    [tensor([2., 4.])]
    """
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for part in parts:
        for sum_so_far, found in zip(total, torch.autograd.grad(part, parameters, allow_unused=True), strict=True):
            if found is not None:
                sum_so_far += found
    return total


def curvature_along(parts: Iterable[Tensor], parameters: Sequence[Tensor], step: Sequence[Tensor]) -> float:
    """Return 1/2 v' (Hessian) v of a sum of scalars by a Hessian-vector product a part; v is the step.

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> curvature_along([w.prod()], [w], [torch.tensor([1.0, 3.0])])
    3.0
    """
    total = 0.0
    for part in parts:
        slopes = torch.autograd.grad(part, parameters, create_graph=True, allow_unused=True)
        pairs = zip(slopes, step, strict=True)
        along = [(slope * v).sum() for slope, v in pairs if slope is not None and slope.requires_grad]
        if along:  # otherwise linear in every parameter: no curvature
            total_slope = torch.stack(along).sum()
            product = torch.autograd.grad(total_slope, parameters, allow_unused=True, materialize_grads=True)
            total += first_order_along(product, step) / 2
    return total


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

    >>> v = [torch.tensor([1.0])]  # H = theta^2 / 2 at theta = 0: gradient is theta
    >>> round(second_order_along([torch.tensor([0.1])], [torch.tensor([-0.1])], v, 0.1), 6)
    0.5
    """
    return (first_order_along(ahead, step) - first_order_along(behind, step)) / (4 * epsilon)


@contextmanager
def parameters_set_to(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Give the parameters other values for a while, and the old ones back bit for bit."""
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
