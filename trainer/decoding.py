"""Decoding rows with a KV cache: prompts are computed once a group, rows join and leave while others go on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from trainer.model import Policy, positions
from trainer.network import Network, going_on_from
from trainer.rollout import pad_left
from trainer.row_cache import RowCache, rows_can_join

# Prompts are computed for at least this share of the seats at a time, so that refill is not one small pass a row.
AHEAD = 8


@dataclass(frozen=True)
class Prefix:
    """Consecutive prompts, computed.

    Args:
        prompts: their numbers.
        lengths: tokens of each.
        attention: `[prompts, L]`, True on real tokens; they are padded on the left.
        logits: `[prompts, V]`, those of each one's first completion token.
        cache: the model's own cache of them.
    """

    prompts: range
    lengths: list[int]
    attention: Tensor
    logits: Tensor
    cache: Any


class Store(Protocol):
    """What the rows being decoded have attended to."""

    joins: bool
    """Whether rows may join while others are being decoded."""

    def join(self, prefix: Prefix, picks: list[int]) -> None:
        """Add a row for each of these places in the prefix."""

    def leave(self, places: list[int], sources: list[int], left: int) -> None:
        """Keep `left` rows: those at `sources` take the places of some that leave, the others stay where they are."""

    def advance(self, policy: Policy, tokens: Tensor) -> Tensor:
        """Return the logits `[rows, V]` after another token of each row."""


class Joining:
    """Rows that join at any time, in a cache of ours."""

    joins = True

    def __init__(self, prefix: Prefix, *, rows: int, columns: int) -> None:
        self.cache = RowCache(prefix.cache, rows=rows, columns=columns)

    def join(self, prefix: Prefix, picks: list[int]) -> None:
        """As `Store`."""
        self.cache.join(prefix.cache, picks, [prefix.lengths[pick] for pick in picks])

    def leave(self, places: list[int], sources: list[int], left: int) -> None:
        """As `Store`."""
        self.cache.leave(places, sources, left)

    def advance(self, policy: Policy, tokens: Tensor) -> Tensor:
        """As `Store`."""
        self.cache.prepare()
        mask = self.cache.mask()
        logits, _ = forward(policy, tokens[:, None], mask, self.cache.lengths[:, None], self.cache)
        self.cache.advanced()
        return logits


class Waves:
    """Rows that start together, in the model's own cache: for layers whose rows cannot be put side by side."""

    joins = False

    def __init__(self) -> None:
        self.cache: Any = None
        self.attention = torch.zeros(0)

    def join(self, prefix: Prefix, picks: list[int]) -> None:
        """As `Store`; the prefix is used up."""
        index = torch.tensor(picks, device=prefix.attention.device)
        self.cache, self.attention = prefix.cache, prefix.attention[index]
        self.cache.reorder_cache(index)

    def leave(self, places: list[int], sources: list[int], left: int) -> None:
        """As `Store`."""
        order = list(range(left))
        for place, source in zip(places, sources, strict=True):
            order[place] = source
        index = torch.tensor(order, dtype=torch.long, device=self.attention.device)
        self.cache.reorder_cache(index)
        self.attention = self.attention[index]

    def advance(self, policy: Policy, tokens: Tensor) -> Tensor:
        """As `Store`."""
        self.attention = torch.cat([self.attention, self.attention.new_ones(len(tokens), 1)], dim=1)
        last = self.attention.sum(1, keepdim=True) - 1
        logits, self.cache = forward(policy, tokens[:, None], self.attention, last, self.cache)
        return logits


class Decoder:
    """The rows of P prompts x G samples, decoded at most `seats` at once, in order.

    Args:
        policy: the policy.
        prompts: token ids of P prompts.
        group_size: G; row b is a sample of prompt b // G.
        seats: most rows at once.
        max_new_tokens: most tokens of a completion.
    """

    def __init__(
        self, policy: Policy, prompts: Sequence[Sequence[int]], group_size: int, seats: int, max_new_tokens: int
    ) -> None:
        self.policy, self.prompts, self.group_size, self.seats = policy, prompts, group_size, seats
        self.columns = max(map(len, prompts)) + max_new_tokens
        self.rows: list[int] = []
        self.waiting = range(len(prompts) * group_size)
        self.prefix: Prefix | None = None
        self.store: Store | None = None

    def admit(self) -> Tensor | None:
        """Seat the next rows at the end of `rows` and return their first logits; None where none can be seated."""
        room = self.seats - len(self.rows)
        if not (self.waiting and room) or (self.rows and self.store and not self.store.joins):
            return None
        prefix = self.computed(room)
        rows = self.waiting[: min(room, prefix.prompts.stop * self.group_size - self.waiting[0])]
        picks = [row // self.group_size - prefix.prompts.start for row in rows]
        logits = prefix.logits[picks]
        if self.store is None:
            joining = rows_can_join(prefix.cache)
            self.store = Joining(prefix, rows=self.seats, columns=self.columns) if joining else Waves()
        self.store.join(prefix, picks)
        self.rows.extend(rows)
        self.waiting = self.waiting[len(rows) :]
        if not self.store.joins or not self.waiting or self.waiting[0] // self.group_size not in prefix.prompts:
            self.prefix = None
        return logits

    def computed(self, room: int) -> Prefix:
        """Return a prefix that begins with the prompts of the next rows; those of so many, if it is not there yet."""
        if self.prefix is None:
            first, last = (row // self.group_size for row in (self.waiting[0], self.waiting[:room][-1]))
            stop = max(last + 1, first + self.seats // (AHEAD * self.group_size))
            self.prefix = prefill(self.policy, self.prompts, range(first, min(stop, len(self.prompts))))
        return self.prefix

    def advance(self, tokens: Tensor) -> Tensor:
        """Return the logits `[rows, V]` after another token of each row."""
        assert self.store is not None
        return self.store.advance(self.policy, tokens)

    def leave(self, ended: Sequence[int]) -> tuple[list[int], list[int]]:
        """Take these seats from the rows on them; the last rows move up into the gaps.

        Returns:
            The seats that were filled, and those that their rows came from.
        """
        assert self.store is not None
        gone, left = set(ended), len(self.rows) - len(ended)
        places = [seat for seat in ended if seat < left]
        sources = [seat for seat in range(left, len(self.rows)) if seat not in gone]
        for place, source in zip(places, sources, strict=True):
            self.rows[place] = self.rows[source]
        del self.rows[left:]
        self.store.leave(places, sources, left)
        return places, sources


def prefill(policy: Policy, prompts: Sequence[Sequence[int]], which: range) -> Prefix:
    """Return the prefix of these prompts."""
    tokens, attention = pad_left(prompts[which.start : which.stop], policy.device)
    lengths = [len(prompts[prompt]) for prompt in which]
    mask = None if len(set(lengths)) == 1 else attention
    logits, cache = forward(policy, tokens, mask, positions(attention), None)
    return Prefix(which, lengths, attention, logits, cache)


def forward(
    policy: Policy, tokens: Tensor, attention: Tensor | None, position_ids: Tensor, cache: Any
) -> tuple[Tensor, Any]:
    """Return the logits `[rows, V]` of the last column, in the model's type, and the cache with these tokens in it.

    Raises:
        ValueError: a model without a cache.
    """
    with torch.inference_mode() if keeps_nothing(policy) else torch.no_grad():
        output = policy(
            input_ids=tokens,
            attention_mask=None if attention is None else attention.long(),
            position_ids=position_ids,
            **going_on_from(cache, policy.model),
            use_cache=True,
            logits_to_keep=1,
        )
    held = getattr(output, "past_key_values", None)
    if held is None:
        raise ValueError(
            "rollout.engine='cache' must have a model that returns past_key_values; got one that does not, "
            f"{type(policy.model).__name__}. Name an engine of your own as module:name."
        )
    return output.logits[:, -1], held


def keeps_nothing(policy: Policy) -> bool:
    """Return whether no tensor of a pass outlives it, so that they may be inference tensors, which cost less.

    So it is with transformers' own models. Remote code may keep some, as adapters and shards may, which then fail in
    training.
    """
    plain = type(policy.network) in (type(None), Network)
    return plain and type(policy.model).__module__.startswith("transformers.models.")
