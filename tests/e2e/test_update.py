"""One step of training against a textbook: the same update in thirty plain lines, from the rollouts that were written.

Everything is float64 but transformers' norms and rotary angles: rows that share a prompt add their gradients up before
such a norm's float32 rounding, and textbook rows after it (1e-8). Adam's eps is well above that, for without it a
gradient of that size would move a weight as far as any other.
"""

import json
from dataclasses import dataclass

import pytest
import torch
import transformers

import entrocraft

RATE = 1e-3
EPS = 1e-4
LONGEST = 13
KEEP = {1: lambda a: a >= 0, -1: lambda a: a <= 0, 0: lambda a: a == a}


@pytest.fixture
def one_step(tmp_path, plugins):
    """A function that takes one step under these settings and returns (rollouts, row, weights after)."""

    def run(algorithm, band=(0.01, 6.0), temperature=1.0, mini_batches=1, **optimizer):
        entrocraft.train(
            {
                "output": str(tmp_path / "run"),
                "steps": 1,
                "model": {"dtype": "float64"},
                "reward": {"function": f"{plugins}:parity"},
                "rollout": {"prompts": 4, "group_size": 4, "temperature": temperature},
                "algorithm": {"mini_batches": mini_batches, **algorithm},
                "band": {"schedule": "constant", "unit": "nats", "start": list(band)},
                "optimizer": {"learning_rate": RATE, "micro_batch_rows": 3, "eps": EPS, **optimizer},
                "evaluation": {"prompts": 0},
                "checkpoint": {"rollouts_every": 1},
            }
        )
        rollouts = [json.loads(line) for line in (tmp_path / "run/rollouts/step_0.jsonl").read_text().splitlines()]
        row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
        after = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run/checkpoints/step_1")
        return rollouts, row, dict(after.named_parameters())

    return run


def advantages_of(rollouts):
    rewards = torch.tensor([rollout["reward"] for rollout in rollouts]).reshape(4, 4)
    spread = rewards.std(1, keepdim=True)
    return torch.where(spread > 0, (rewards - rewards.mean(1, keepdim=True)) / (spread + 1e-6), 0.0).flatten()


def token_logits(model, tokenizer, rollout, temperature):
    """Logits at the completion's tokens, and the tokens; the end token included where the completion has one."""
    prompt, ids = tokenizer(rollout["prompt"]).input_ids, tokenizer(rollout["completion"]).input_ids
    ids += [tokenizer.eos_token_id] if len(ids) < LONGEST else []
    return model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / temperature, torch.tensor(ids)


@dataclass(frozen=True)
class Book:
    """One step of GRPO; without `drop`, rejected rows stay, with advantage 0, in the denominator and the terms."""

    side: int = 0
    drop: bool = True
    bonus: float = 0.0
    kl: float = 0.0
    temperature: float = 1.0
    epochs: int = 1
    batches: int = 1
    span: tuple[float, float] = (0.2, 0.2)
    clip: float = 1.0
    eps: float = EPS
    decay: float = 0.0


def textbook(rollouts, book):
    """Return the parameters after the step, without batching or padding, and the clipped tokens' (low, high, all)."""
    folder = entrocraft.load("trainer.model").SHIPPED["countdown-0.2m"]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        old = [token_logits(model, tokenizer, r, book.temperature)[0].log_softmax(-1) for r in rollouts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, eps=book.eps, weight_decay=book.decay)
    advantages = advantages_of(rollouts)
    kept = KEEP[book.side](advantages)
    advantages = advantages * kept
    counts = torch.zeros(3)
    for rows in list(torch.arange(16).tensor_split(book.batches)) * book.epochs:
        terms, tokens = [], 0
        for row in rows.tolist():
            if book.drop and not kept[row]:
                continue
            logits, ids = token_logits(model, tokenizer, rollouts[row], book.temperature)
            tokens += len(ids)
            log_prob = logits.log_softmax(-1)
            entropy = -(log_prob.exp() * log_prob).sum(-1)
            here = torch.arange(len(ids))
            reference = old[row][here, ids]
            ratio, advantage = (log_prob[here, ids] - reference).exp(), advantages[row]
            low, high = 1 - book.span[0], 1 + book.span[1]
            gain = torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)
            if advantage != 0:
                clipped = (ratio > high).sum() if advantage > 0 else (ratio < low).sum()
                counts += torch.stack([clipped * (advantage < 0), clipped * (advantage > 0), torch.tensor(len(ids))])
            difference = reference - log_prob[here, ids]
            terms.append((-gain - book.bonus * entropy + book.kl * (difference.exp() - difference - 1)).sum())
        optimizer.zero_grad()
        (sum(terms) / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), book.clip)
        optimizer.step()
    return dict(model.named_parameters()), counts


@pytest.mark.parametrize(
    ("algorithm", "band", "others", "expected"),
    [
        pytest.param({}, (0.01, 6.0), {}, {}, id="grpo"),
        pytest.param({"mini_batches": 2}, (0.01, 6.0), {}, {"batches": 2}, id="mini-batches"),
        pytest.param({}, (0.01, 6.0), {"temperature": 0.7}, {"temperature": 0.7}, id="temperature"),
        pytest.param(
            {}, (0.01, 6.0), {"gradient_clip": 0.1, "eps": 1e-2}, {"clip": 0.1, "eps": 1e-2}, id="gradient-clip"
        ),
        pytest.param({}, (0.01, 6.0), {"weight_decay": 0.1}, {"decay": 0.1}, id="weight-decay"),
        pytest.param({"filter": "algorithm1"}, (0.01, 0.02), {}, {"side": 1}, id="above-drop"),
        pytest.param({"filter": "algorithm1"}, (5.0, 6.0), {}, {"side": -1}, id="below-drop"),
        pytest.param(
            {"filter": "algorithm1", "denominator": "zero", "entropy_bonus": 0.5},
            (5.0, 6.0),
            {},
            {"side": -1, "drop": False, "bonus": 0.5},
            id="below-zero-bonus",
        ),
        pytest.param({"entropy_bonus": 0.5}, (0.01, 6.0), {}, {"bonus": 0.5}, id="bonus"),
        pytest.param({"kl": 3.0, "mini_batches": 2}, (0.01, 6.0), {}, {"kl": 3.0, "batches": 2}, id="kl"),
        pytest.param(
            {"epochs": 3, "clip_options": {"low": 0.02, "high": 0.05}},
            (0.01, 6.0),
            {},
            {"epochs": 3, "span": (0.02, 0.05)},
            id="clipped",
        ),
    ],
)
def test_a_step_is_the_textbook_step(one_step, algorithm, band, others, expected):
    rollouts, row, after = one_step(algorithm, band, **others)
    rewards = [rollout["reward"] for rollout in rollouts]
    assert any(len(set(rewards[first : first + 4])) > 1 for first in range(0, 16, 4))
    by_hand, (low, high, tokens) = textbook(rollouts, Book(**expected))
    assert after.keys() == by_hand.keys()
    largest = max(float((after[name] - by_hand[name]).detach().abs().max()) for name in after)
    assert largest < 1e-3 * RATE
    assert row["skipped"] == 0
    if "kl" not in algorithm and "entropy_bonus" not in algorithm:
        assert row["clip_low_fraction"] == pytest.approx(float(low / tokens))
        assert row["clip_high_fraction"] == pytest.approx(float(high / tokens))
    assert min(low, high) > 0 or "epochs" not in algorithm
