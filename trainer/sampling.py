"""The sampler: rows decoded with a KV cache, drawn by counter-based uniforms, recorded exactly as they go."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entropy_theory.chunked import tiles
from trainer.decoding import Decoder
from trainer.model import Policy, at_least_float32
from trainer.recorder import Recorder, Recording
from trainer.rollout import Rollouts, pad_left
from trainer.stopping import Endings
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
    cumulative = probs.cumsum(-1, dtype=torch.float64)
    # In float64 u < 1 times the total rounds below the total, so a token with mass is always found.
    threshold = (uniforms.to(cumulative) * cumulative[..., -1])[..., None]
    return torch.searchsorted(cumulative, threshold, right=True)[..., 0]


def draw_from(logits: Float[Tensor, "n V"], uniforms: Float[Tensor, " n"], sampling: Sampling) -> Int[Tensor, " n"]:
    """Return a token for each row of logits; the rows of a large vocabulary are taken a few at a time."""
    tokens = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    for rows in tiles(logits, logits.shape[1], panel=True):
        scaled = at_least_float32(logits[rows])
        if sampling.temperature != 1:
            scaled = scaled / sampling.temperature
        probs = truncate(scaled.softmax(-1), top_p=sampling.top_p, top_k=sampling.top_k)
        # A row of NaN has no such token; it is refused when it is recorded.
        tokens[rows] = draw(probs, uniforms[rows]).clamp_(max=logits.shape[1] - 1)
    return tokens


class Draws:
    """What each seat draws with: its row's uniforms, how many of them are used, and the token that came last."""

    def __init__(self, seats: int, length: int, device: torch.device) -> None:
        self.uniforms = torch.zeros(seats, length, dtype=torch.float64, device=device)
        self.used = torch.zeros(seats, 1, dtype=torch.long, device=device)
        self.tokens = torch.zeros(seats, dtype=torch.long, device=device)

    def seat(self, seats: slice, uniforms: Tensor) -> None:
        """Give these seats to new rows."""
        self.uniforms[seats] = uniforms.to(self.uniforms.device)
        self.used[seats] = 0

    def next(self, seats: slice) -> Tensor:
        """Return the next uniform of these seats."""
        found = self.uniforms[seats].gather(1, self.used[seats])[:, 0]
        self.used[seats] += 1
        return found

    def move(self, places: Sequence[int], sources: Sequence[int]) -> None:
        """Put the rows on the seats `sources` on the seats `places`."""
        if places:
            for held in (self.uniforms, self.used, self.tokens):
                held[list(places)] = held[list(sources)]


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
    stop: Sequence[str] = (),
    slots: int = 0,
) -> Rollouts:
    """Return G completions of each prompt, with what was recorded while sampling.

    The prompt's prefix is computed once a group. A row that has ended makes room for the next one. Draws depend on
    (generator, prompt index, sample index, position) alone, never on which rows are decoded together.

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
        stop: texts that end a completion, which they belong to, beside the stop tokens.
        slots: rows decoded at once; 0 for all of them.

    Returns:
        P * G rows; row b is sample b % G of prompt b // G.

    Raises:
        ValueError: a model without a cache, or one whose logits hold NaN.
    """
    index = range(len(prompts)) if prompt_index is None else prompt_index
    count = len(prompts) * group_size
    recording = Recording(sampling.temperature, statistics, tuple(temperatures))
    decoder = Decoder(policy, prompts, group_size, min(slots or count, count), max_new_tokens)
    draws = Draws(decoder.seats, max_new_tokens, policy.device)
    endings, recorder = Endings(policy, count, max_new_tokens, stop), Recorder(recording)
    while decoder.rows or decoder.waiting:
        seats = slice(len(decoder.rows), None)
        logits = decoder.admit()
        if logits is None:
            seats = slice(0, len(decoder.rows))
            logits = decoder.advance(draws.tokens[seats])
        else:
            seats = slice(seats.start, len(decoder.rows))
            joined = decoder.rows[seats]
            addresses = [index[row // group_size] for row in joined], [row % group_size for row in joined]
            draws.seat(seats, generator(*addresses, max_new_tokens))
        rows = decoder.rows[seats]
        tokens = draw_from(logits, draws.next(seats), sampling)
        draws.tokens[seats] = tokens
        recorder.write(rows, tokens, logits)
        # The one place where this process waits for the device.
        ended = endings.of(rows, tokens.tolist())
        if ended:
            draws.move(*decoder.leave([seats.start + place for place in ended]))
    tokens, attention = (block.repeat_interleave(group_size, 0) for block in pad_left(prompts, policy.device))
    return recorder.rollouts(tokens, attention, endings.finished, group_size)
