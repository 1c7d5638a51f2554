"""The sampler: batched decoding with a KV cache, recording log-probabilities and exact entropies as it goes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from entropy_theory import entropy, entropy_bonus_change, sampled_token_delta, second_order_change, token_statistics
from trainer.model import Policy, at_least_float32, computing, positions
from trainer.rollout import STATISTICS, Rollouts, pad_left
from trainer.streams import TokenUniforms


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: divides the logits; above 0.
        top_p: keep the smallest set of likeliest tokens that holds this share of the mass; 1 keeps all.
        top_k: keep the k likeliest tokens; 0 keeps all.

    Raises:
        ValueError: a value outside its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise ValueError(
                "Sampling(temperature, top_p, top_k) must have temperature > 0, 0 < top_p <= 1 and top_k >= 0; got "
                f"{self.temperature}, {self.top_p}, {self.top_k}."
            )


def truncate(probs: Tensor, *, top_p: float, top_k: int) -> Tensor:
    """Return the probabilities `[B, V]` with the tokens outside top-k and top-p set to 0; not renormalised.

    Top-k acts first, and top-p on what it leaves, renormalised, as in Hugging Face's generation. The token that
    crosses top_p is kept. Tokens tied with the k-th are all kept.
    """
    if 0 < top_k < probs.shape[-1]:
        probs = probs.where(probs >= probs.topk(top_k).values[..., -1:], 0.0)
    if top_p < 1:
        ordered, order = probs.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        kept = ordered.where(before < top_p * ordered.sum(-1, keepdim=True), 0.0)
        probs = torch.zeros_like(probs).scatter(-1, order, kept)
    return probs


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Return tokens `[B]` by inversion: the first token whose cumulative probability exceeds u times the total.

    Args:
        probs: `[B, V]`, not negative; rows need not sum to 1. A token of probability 0 is never drawn.
        uniforms: `[B]` in [0, 1).
    """
    cumulative = probs.double().cumsum(-1)
    # In float64 u < 1 times the total rounds below the total, so a token with mass is always found.
    threshold = (uniforms.to(cumulative) * cumulative[..., -1])[..., None]
    return torch.searchsorted(cumulative, threshold, right=True)[..., 0]


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
    *,
    generator: TokenUniforms,
    prompt_index: Sequence[int] | None = None,
    statistics: bool = False,
    temperatures: Sequence[float] = (),
) -> Rollouts:
    """Return G completions of each prompt, with what was recorded while sampling.

    The prompt's prefix is computed once a group. Rows that have ended leave the batch. Draws depend on (generator,
    prompt index, sample index, position) alone, never on the batch's layout.

    Args:
        policy: the policy to sample from.
        prompts: token ids of P prompts.
        group_size: G, completions a prompt.
        max_new_tokens: T, after which a completion is cut.
        sampling: temperature and truncation.
        generator: source of the uniforms.
        prompt_index: what addresses each prompt's draws; 0..P-1 by default.
        statistics: also record each token's influence, curvature and responsiveness (more passes over its logits).
        temperatures: also record each token's log-probability at these temperatures.

    Returns:
        P * G rows; row b is sample b % G of prompt b // G.
    """
    prompt_index = range(len(prompts)) if prompt_index is None else prompt_index
    count = len(prompts) * group_size
    uniforms = generator(
        [index for index in prompt_index for _ in range(group_size)],
        list(range(group_size)) * len(prompts),
        max_new_tokens,
    ).to(policy.device)
    tokens, attention = (block.repeat_interleave(group_size, 0) for block in pad_left(prompts, policy.device))
    finished = torch.zeros(count, dtype=torch.bool, device=policy.device)
    stop = torch.tensor(policy.stop_ids, device=policy.device)
    alive = torch.arange(count, device=policy.device)
    decoder = Decoder(policy, tokens[::group_size], attention[::group_size], group_size)
    logits = decoder.logits
    records = Recorder(count, max_new_tokens, policy.device, logits.dtype, statistics, temperatures)
    for t in range(max_new_tokens):
        scaled = logits / sampling.temperature
        probs = truncate(scaled.softmax(-1), top_p=sampling.top_p, top_k=sampling.top_k)
        chosen = draw(probs, uniforms[alive, t])
        records.write(t, alive, chosen, scaled, logits)
        ended = torch.isin(chosen, stop)
        finished[alive[ended]] = True
        if t + 1 == max_new_tokens or bool(ended.all()):
            break
        if bool(ended.any()):
            going = ~ended
            alive, chosen = alive[going], chosen[going]
            decoder.keep(going)
        logits = decoder.advance(chosen)
    return records.rollouts(tokens, attention, finished, group_size)


class Decoder:
    """The model's cache and the state of the rows that are still being decoded."""

    def __init__(self, policy: Policy, tokens: Tensor, attention: Tensor, group_size: int) -> None:
        with computing(policy.model):
            output = policy.model(
                input_ids=tokens,
                attention_mask=attention.long(),
                position_ids=positions(attention),
                use_cache=True,
                logits_to_keep=1,
            )
        self.policy = policy
        self.cache = output.past_key_values
        self.cache.batch_repeat_interleave(group_size)
        self.attention = attention.long().repeat_interleave(group_size, 0)
        self.logits = at_least_float32(output.logits[:, -1]).repeat_interleave(group_size, 0)

    def keep(self, going: Tensor) -> None:
        """Leave only the rows where `going` is True."""
        self.cache.batch_select_indices(going.nonzero()[:, 0])
        self.attention = self.attention[going]

    def advance(self, chosen: Tensor) -> Tensor:
        """Return the logits `[rows, V]` after the chosen tokens `[rows]`."""
        self.attention = torch.cat([self.attention, torch.ones_like(self.attention[:, :1])], dim=1)
        with computing(self.policy.model):
            output = self.policy.model(
                input_ids=chosen[:, None],
                attention_mask=self.attention,
                position_ids=self.attention.sum(1, keepdim=True) - 1,
                past_key_values=self.cache,
                use_cache=True,
            )
        return at_least_float32(output.logits[:, -1])


class Recorder:
    """Blocks `[B, T]` that fill up as tokens are drawn."""

    def __init__(
        self,
        count: int,
        length: int,
        device: torch.device,
        dtype: torch.dtype,
        statistics: bool,
        temperatures: Sequence[float],
    ) -> None:
        self.tokens = torch.zeros(count, length, dtype=torch.long, device=device)
        self.mask = torch.zeros(count, length, dtype=torch.bool, device=device)
        blank = torch.zeros(count, length, dtype=dtype, device=device)
        self.values = {name: blank.clone() for name in STATISTICS}
        self.tempered = {temperature: blank.clone() for temperature in temperatures}
        self.statistics = statistics
        self.statistics_s = 0.0

    def write(self, t: int, rows: Tensor, chosen: Tensor, scaled: Tensor, logits: Tensor) -> None:
        """Record position t of these rows."""
        self.tokens[rows, t] = chosen
        self.mask[rows, t] = True
        found = token_statistics(scaled, chosen)
        recorded = {
            "log_prob": found.log_prob,
            "entropy": found.entropy,
            "entropy_t1": found.entropy if scaled.equal(logits) else entropy(logits),
        }
        if self.statistics:
            began = time.perf_counter()
            recorded["influence"] = found.mean_discriminator - found.discriminator
            recorded["curvature"] = second_order_change(scaled, sampled_token_delta(scaled, chosen, 1.0))
            recorded["responsiveness"] = entropy_bonus_change(scaled, 1.0, 1.0)
            self.statistics_s += time.perf_counter() - began
        for temperature, values in self.tempered.items():
            values[rows, t] = (logits / temperature).log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
        for name, value in recorded.items():
            self.values[name][rows, t] = value

    def rollouts(self, tokens: Tensor, attention: Tensor, finished: Tensor, group_size: int) -> Rollouts:
        """Return what was recorded, cut to the longest completion."""
        longest = int(self.mask.sum(1).max())
        mask = self.mask[:, :longest]
        return Rollouts(
            tokens=torch.cat([tokens, self.tokens[:, :longest]], dim=1),
            attention=torch.cat([attention, mask], dim=1),
            mask=mask,
            finished=finished,
            group_size=group_size,
            statistics_s=self.statistics_s,
            tempered={temperature: values[:, :longest] for temperature, values in self.tempered.items()},
            **{name: value[:, :longest] for name, value in self.values.items()},
        )
