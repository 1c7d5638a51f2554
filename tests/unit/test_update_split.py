"""However a mini-batch is split, into passes and among processes, its gradient and what is logged stay the same."""

import copy
import weakref
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import torch

from trainer.methods.advantages import reinforce
from trainer.methods.clips import GSPO, PPOClip
from trainer.methods.denominators import drop, zero
from trainer.methods.filters import keep_all
from trainer.methods.losses import EntropyBonus, KLCov, KLPenalty
from trainer.methods.pipeline import Algorithm
from trainer.methods.stages import Filtered
from trainer.methods.weights import STEER, ClipCov
from trainer.metrics import update_columns
from trainer.network import Block, Network, Reference
from trainer.sampling import Sampling, sample
from trainer.step import Updater, joined_updates, largest_of
from trainer.streams import TokenUniforms
from trainer.workers import ALONE, Workers

ROUNDING, COUNTS = 1e-12, ("rows", "tokens", "clipped_low", "clipped_high", "gap_tokens")
PROMPTS, GROUP, LONGEST = [[5, 3, 7], [2], [0, 6, 6, 4], [11, 0]], 3, 7
ADVANTAGES = torch.tensor([[1.5, -0.7, 0.0], [0.4, -2.0, 0.9], [0.0, 0.0, 1.1], [-0.6, 0.8, -1.3]]).double()
WEIGHTS = torch.tensor([[1.0, 0.0, 1.0], [2.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.5]]).double()
# Methods of a token alone, of a row, of the whole mini-batch; each acts on these rollouts.
METHODS = {
    "ppo": {"clip": PPOClip(0.1, 0.1)},
    "gspo": {"clip": GSPO(0.01, 0.01)},
    "terms": {"clip": PPOClip(), "terms": (KLPenalty(0.7), EntropyBonus(0.4)), "denominator": zero},
    "clip_cov": {"clip": PPOClip(1.0, 1.0), "token_weight": ClipCov(ratio=0.2, low=0.05)},
    "steer": {"clip": PPOClip(), "token_weight": STEER()},
    "kl_cov": {"clip": PPOClip(), "terms": (KLCov(0.9, 0.2),)},
}
# (micro_batch_rows, micro_batch_tokens): in order, and by budgets of a few rows and of less than the shortest one
SPLITS = [(4, 0), (3, 25), (64, 1)]


class Kept(torch.optim.SGD):
    """Takes no step; keeps the gradients that it was given, each flattened."""

    def __init__(self, model):
        super().__init__(model.parameters(), lr=0.0)
        self.gradients = []

    def step(self):
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self.gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))


@dataclass(frozen=True)
class OneOfSeveral(Workers):
    """A process of several whose others are asked for their part one after the other."""

    def gather(self, value):
        return [value]

    def total(self, values):
        return values

    def accumulating(self, network, last):
        return nullcontext()


@pytest.fixture
def off_policy(tiny):
    """A network that has moved since it drew the rollouts, the rollouts, and a reference that differs from both."""
    rollouts = sample(tiny, PROMPTS, GROUP, LONGEST, Sampling(0.8), generator=TokenUniforms(1))
    assert len(set(rollouts.attention.sum(1).tolist())) > 3
    reference, generator = copy.deepcopy(tiny.model).requires_grad_(False), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for moved, size in ((reference, 0.05), (tiny.model, 0.03)):
            for parameter in moved.parameters():
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return tiny.model, rollouts, reference


def split_update(off_policy, method, rows, tokens=0, workers=ALONE):
    """What an update of two mini-batches did, and the gradient of each of its steps."""
    model, rollouts, reference = off_policy
    options = {"denominator": drop, **METHODS[method]}
    algorithm = Algorithm.of(reinforce, filter=keep_all, **options)
    optimizer = Kept(model)
    update = Updater(
        network=Network(model),
        reference=Reference(Network(reference)) if "reference" in algorithm.needs else None,
        optimizer=optimizer,
        algorithm=algorithm,
        temperature=0.8,
        mini_batches=2,
        epochs=1,
        micro_batch_rows=rows,
        micro_batch_tokens=tokens,
        gradient_clip=1e9,
        workers=workers,
    )
    noise = torch.rand(rollouts.mask.shape, generator=torch.Generator().manual_seed(3))
    return update(rollouts, Filtered(WEIGHTS, ADVANTAGES), noise=noise), optimizer.gradients


def assert_same_update(found, gradients, whole, expected):
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=ROUNDING * max(1.0, float(other.norm())))
    assert [getattr(found, name) for name in COUNTS] == [getattr(whole, name) for name in COUNTS]
    assert (found.kl is None) == (whole.kl is None)
    for name in ("gap", "gap_sum", "ratio_max", "kl"):
        assert (getattr(found, name) or 0.0) == pytest.approx(getattr(whole, name) or 0.0, rel=10 * ROUNDING), name


@pytest.mark.parametrize("method", METHODS)
def test_passes_change_neither_gradient_nor_counts(off_policy, method):
    whole, expected = split_update(off_policy, method, 64)
    plain = split_update(off_policy, "ppo", 64)[1][0]
    assert method == "ppo" or float((plain - expected[0]).norm()) > 1e-3 * float(plain.norm())  # the method acts
    for rows, tokens in SPLITS:
        found, gradients = split_update(off_policy, method, rows, tokens)
        assert_same_update(found, gradients, whole, expected)
        assert found.losses == pytest.approx(whole.losses, abs=ROUNDING)


# seven processes: some have no row of a mini-batch of six
@pytest.mark.parametrize(("method", "tokens", "count"), [("ppo", 0, 7), ("clip_cov", 25, 2), ("terms", 25, 7)])
def test_processes_add_up_to_the_whole(off_policy, method, tokens, count):
    whole, expected = split_update(off_policy, method, 64)
    shares = [split_update(off_policy, method, 2, tokens, OneOfSeveral(rank, count)) for rank in range(count)]
    # copies and shards average the gradients of all processes
    gradients = [torch.stack(steps).mean(0) for steps in zip(*(gradients for _, gradients in shares), strict=True)]
    assert_same_update(joined_updates([update for update, _ in shares]), gradients, whole, expected)
    losses = [sum(parts) for parts in zip(*(update.losses for update, _ in shares), strict=True)]
    assert losses == pytest.approx(whole.losses, abs=ROUNDING)


def test_statistics_of_the_whole_hold_no_logits(off_policy, monkeypatch):
    """A method may ask for logits and for the mini-batch: rows of the vocabulary's width are let go with their pass."""
    made, alive, plain = [], [], Network.logits

    def watched(network, block):
        alive.append(sum(reference() is not None for reference in made))
        logits = plain(network, block)
        made.append(weakref.ref(logits))
        return logits

    class Both:
        needs = frozenset({"logits", "mini_batch"})

        def __call__(self, tokens):
            assert tokens.logits is not None
            assert len(tokens.whole.mask) == 6
            return torch.zeros_like(tokens.log_prob)

    monkeypatch.setattr(Network, "logits", watched)
    monkeypatch.setitem(METHODS, "both", {"clip": PPOClip(), "terms": (Both(),)})
    split_update(off_policy, "both", 1)
    assert len(alive) > 12
    assert max(alive) <= 1


def test_mean_gap_and_ratio_of_processes_by_hand(off_policy):
    """Sampler and trainer differ by 1 and 3 at two tokens in one process, by 2 at one of four in the other."""
    base = split_update(off_policy, "ppo", 64)[0]
    one = replace(base, gap=3.0, gap_sum=4.0, gap_tokens=2, ratio_max=1.5, kl=0.25, tokens=2)
    other = replace(base, gap=2.0, gap_sum=2.0, gap_tokens=4, ratio_max=7.5, kl=0.5, tokens=4)
    idle = replace(base, gap=None, gap_sum=0.0, gap_tokens=0, ratio_max=None, kl=None, tokens=0)
    columns = update_columns(joined_updates([idle, one, other]))
    assert (columns["log_prob_gap"], columns["log_prob_gap_mean"], columns["ratio_max"]) == (3.0, 1.0, 7.5)
    assert columns["kl"] == 0.125
    nothing = update_columns(joined_updates([idle, idle]))
    assert [nothing[name] for name in ("log_prob_gap", "log_prob_gap_mean", "ratio_max", "kl")] == [None] * 4


def test_the_mean_gap_is_over_the_tokens_of_the_first_mini_batch(off_policy):
    model, rollouts, _ = off_policy
    first = split_update(off_policy, "ppo", 64)[0]
    counted = WEIGHTS.flatten()[:6].bool() & (ADVANTAGES.flatten()[:6] != 0)
    mask = rollouts.mask[:6][counted]
    with torch.no_grad():
        scored = Network(model)(Block(rollouts.tokens, rollouts.attention, rollouts.mask, 0.8))
    difference = (scored.log_prob - rollouts.log_prob).abs()[:6][counted]
    assert first.gap_tokens == int(mask.sum())
    assert update_columns(first)["log_prob_gap_mean"] == pytest.approx(float(difference[mask].mean()), rel=1e-9)


def test_a_ratio_that_is_no_number_is_not_hidden_by_others():
    nan = float("nan")
    for values in ([nan, 1.0], [1.0, nan], [None, nan]):
        assert str(largest_of(values)) == "nan"
    assert (largest_of([]), largest_of([None]), largest_of([-2.0, None, -1.0])) == (None, None, -1.0)


def test_a_gradient_that_is_not_finite_of_a_loss_that_is_takes_no_step(off_policy, monkeypatch):
    def kink(tokens):
        """0, with a slope that is not finite."""
        return (tokens.log_prob - tokens.log_prob.detach()).abs().sqrt()

    monkeypatch.setitem(METHODS, "kink", {"clip": PPOClip(), "terms": (kink,)})
    update, gradients = split_update(off_policy, "kink", 2)
    assert (update.bad, update.steps, gradients, update.losses) == (2, 0, [], [])
    assert not update.tokens_per_row.any()
