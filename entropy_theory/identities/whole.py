"""Sequences and networks: the chain rule against enumeration, and the directional change of a small network."""

import torch
from torch import Tensor, nn

from entropy_theory.identities.cases import Case, Identity, Order
from entropy_theory.network import directional_change, parameters_set_to
from entropy_theory.sequence import chain_rule_entropy, enumerated_entropy, enumerated_log_probs, response_entropy
from entropy_theory.softmax import entropy

VOCABULARY, LENGTH = 3, 3
SAMPLES = 4000


def policy_from(case: Case) -> tuple[dict[tuple[int, ...], Tensor], int]:
    """Return next-token logits for every prefix of up to three tokens of a vocabulary of three."""
    prefixes: list[tuple[int, ...]] = [()]
    for prefix in prefixes:
        if len(prefix) < LENGTH - 1:
            prefixes.extend((*prefix, token) for token in range(VOCABULARY))
    numbers = case.delta.flatten()
    rows = numbers.repeat(-(-len(prefixes) * VOCABULARY // len(numbers)))[: len(prefixes) * VOCABULARY]
    return dict(zip(prefixes, 2 * rows.reshape(-1, VOCABULARY), strict=True)), VOCABULARY


def chain_rule(case: Case) -> Tensor:
    """Entropy by the chain rule less entropy by enumeration."""
    table, vocabulary = policy_from(case)
    by_position = chain_rule_entropy(table.__getitem__, vocabulary, LENGTH)
    return (by_position - enumerated_entropy(table.__getitem__, vocabulary, LENGTH)).abs()[None]


def sampled_responses(case: Case) -> Tensor:
    """Mean of summed token entropies over sampled responses less the sequence entropy, in standard errors."""
    table, vocabulary = policy_from(case)
    log_probs = enumerated_log_probs(table.__getitem__, vocabulary, LENGTH)
    seed = int(case.delta.flatten()[0].abs() * 1e6)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(log_probs.exp().cpu(), SAMPLES, replacement=True, generator=generator)
    digits = torch.stack([drawn // vocabulary**power % vocabulary for power in reversed(range(LENGTH))], -1)
    kinds, place = digits.unique(dim=0, return_inverse=True)
    rows = [torch.stack([table[tuple(kind[:t].tolist())] for t in range(LENGTH)]) for kind in kinds]
    estimates = (LENGTH * response_entropy(torch.stack(rows)))[place.to(case.delta.device)]
    exact = enumerated_entropy(table.__getitem__, vocabulary, LENGTH)
    return ((estimates.mean() - exact).abs() / (estimates.std() / SAMPLES**0.5))[None]


class Network(nn.Module):
    """Two layers over random features, so that contexts share parameters."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.features = case.delta[:, :2]
        generator = torch.Generator().manual_seed(case.arms)

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(case.delta.device))

        self.inner, self.outer = weight(8, 2), weight(case.arms, 8)

    def forward(self) -> Tensor:
        """Return the logits at every context, `[N, K]`."""
        return torch.tanh(self.features @ self.inner.T) @ self.outer.T

    def step(self, size: float) -> dict[str, Tensor]:
        """Return a step of all parameters: a shuffled copy of them."""
        return {name: size * value.detach().flip(0).roll(1, -1) for name, value in self.named_parameters()}


def mean_entropy(network: nn.Module) -> Tensor:
    """Return the mean entropy over the contexts, nats."""
    return entropy(network()).mean()


def curvature_two_ways(case: Case) -> Tensor:
    """Second order by a Hessian-vector product less that by differences, relative to the step's size."""
    network = Network(case)
    step = network.step(0.1)
    found = [
        directional_change(network, step, mean_entropy, second_order=way, epsilon=1e-3).second_order
        for way in ("hessian", "difference")
    ]
    return torch.tensor([abs(found[0] - found[1])])  # type: ignore[operator]


def network_residual(case: Case, size: float, order: int) -> Tensor:
    """Return the measured change of a network's entropy less the directional prediction."""
    network = Network(case)
    step = network.step(size)
    found = directional_change(network, step, mean_entropy, second_order="hessian")
    parameters = list(network.parameters())
    before = mean_entropy(network)
    with parameters_set_to(parameters, [value + step[name] for name, value in network.named_parameters()]):
        change = mean_entropy(network) - before
    predicted = found.first_order + (found.second_order or 0.0) * (order == 2)
    return (change - predicted).detach()[None]


EQUALITIES = (
    Identity("chain", "sequence entropy: chain rule = enumeration", chain_rule),
    Identity("chain", "mean over sampled responses = sequence entropy (s.e.)", sampled_responses, 5.0),
    Identity("E7", "second order: Hessian-vector product = differences", curvature_two_ways, 1e-6),
)

ORDERS = (
    Order("E7", "network: measured - first order", lambda case, size: network_residual(case, size, 1), 2),
    Order("E7", "network: measured - first - second", lambda case, size: network_residual(case, size, 2), 3, 0.15),
)
