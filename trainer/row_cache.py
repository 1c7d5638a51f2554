"""A KV cache whose rows join, leave and grow each at a pace of its own, in room that is made beforehand.

Rows are aligned on the right, as with prompts padded on the left: every row's newest token is in the same column, and
a shorter row has columns before its first token that its mask hides. So one write a step serves all rows, and models
see the layout that they know.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


def rows_can_join(cache: Any) -> bool:
    """Return whether rows may be put beside those of a cache: every layer keeps all keys and values, and no more.

    Layers with a sliding window, a recurrent state or an index of their own hold what belongs to the time at which
    their rows entered.
    """
    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def spacious(needed: int, most: int) -> int:
    """Return room for what is needed and for growth: a quarter more, 32 at least, never beyond `most`."""
    return min(most, needed + max(32, needed // 4))


class RowLayer(DynamicLayer):
    """The keys and values of one layer, `[rows, heads, columns, size]`, the rows of `cache` first."""

    def __init__(self, cache: "RowCache", like: DynamicLayer) -> None:
        super().__init__()
        self.cache = cache
        self.keys, self.values = (held[:0, :, :0].clone() for held in (like.keys, like.values))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the next token of every row, and return what they hold, columns that no row needs left out."""
        rows, end = self.cache.rows, self.cache.end
        self.keys[:rows, :, end] = key_states[:, :, 0]
        self.values[:rows, :, end] = value_states[:, :, 0]
        held = slice(end - self.cache.longest, end + 1)
        return self.keys[:rows, :, held], self.values[:rows, :, held]

    def get_seq_length(self) -> int:
        """Return the columns that the rows fill."""
        return self.cache.longest

    def lay_out(self, rows: int, columns: int, end: int) -> None:
        """Move what the rows hold into new room, so that it ends before column `end`."""
        held = slice(self.cache.end - self.cache.longest, self.cache.end)
        for name in ("keys", "values"):
            old = getattr(self, name)
            # Zeros: what no row has written is hidden by the masks, but 0 times NaN would not be.
            new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
            new[: self.cache.rows, :, end - self.cache.longest : end] = old[: self.cache.rows, :, held]
            setattr(self, name, new)

    def join(self, source: DynamicLayer, picks: Tensor, columns: int) -> None:
        """Write these rows of another layer after the rows, the last `columns` columns of them."""
        first, end = self.cache.rows, self.cache.end
        for mine, theirs in ((self.keys, source.keys), (self.values, source.values)):
            mine[first : first + len(picks), :, end - columns : end] = theirs[picks, :, theirs.shape[2] - columns :]

    def move(self, places: Tensor, sources: Tensor) -> None:
        """Put the rows at `sources` in the place of those at `places`."""
        held = slice(self.cache.end - self.cache.longest, self.cache.end)
        for mine in (self.keys, self.values):
            mine[places, :, held] = mine[sources, :, held]


class RowCache(DynamicCache):
    """What the rows being decoded have attended to, in layers like those of a plain cache.

    Args:
        like: a cache of the same model.
        rows: most rows at once.
        columns: most tokens of a row.
    """

    def __init__(self, like: DynamicCache, *, rows: int, columns: int) -> None:
        super().__init__()
        self.layers = [RowLayer(self, layer) for layer in like.layers]
        self.most_rows, self.most_columns = rows, columns
        self.rows = self.longest = self.end = self.room = self.columns = 0
        # A row's length is the clock less the time at which it would have had none: joining and leaving alone change
        # these, and a step the clock.
        self.clock = 0
        self.born: list[int] = []
        self.born_at = torch.zeros(0, dtype=torch.long, device=like.layers[0].keys.device)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, `[rows]`."""
        return self.clock - self.born_at

    def mask(self) -> Tensor | None:
        """Return True on the columns of each row's tokens and the next one, `[rows, longest + 1]`; None for all."""
        if len(set(self.born)) == 1:
            return None
        columns = torch.arange(self.longest, -1, -1, device=self.born_at.device)
        return columns <= self.lengths[:, None]

    def prepare(self) -> None:
        """Make room for another token of every row, and give back room that none of them needs."""
        if self.end == self.columns or self.columns > 2 * spacious(self.longest + 1, self.most_columns):
            self.lay_out(self.rows, self.longest, self.longest + 1)

    def lay_out(self, rows: int, end: int, columns: int) -> None:
        """Make room for so many rows and columns, and for their growth; what rows hold ends before column `end`."""
        self.room, self.columns = spacious(rows, self.most_rows), spacious(columns, self.most_columns)
        for layer in self.layers:
            layer.lay_out(self.room, self.columns, end)
        self.end = end

    def advanced(self) -> None:
        """Count the token that a forward pass has just written in every row."""
        self.clock += 1
        self.longest += 1
        self.end += 1

    def join(self, source: DynamicCache, picks: Sequence[int], lengths: Sequence[int]) -> None:
        """Add rows: those of a cache of prompts padded on the left, of these lengths, a row of it once or often."""
        columns, rows = max(lengths), self.rows + len(picks)
        if rows > self.room or columns > self.end:
            widest = max(self.longest, columns)
            self.lay_out(rows, widest, widest + 1)
        index = torch.tensor(picks, device=self.born_at.device)
        for mine, theirs in zip(self.layers, source.layers, strict=True):
            mine.join(theirs, index, columns)
        self.rows = rows
        self.reborn([*self.born, *(self.clock - length for length in lengths)])

    def leave(self, places: Sequence[int], sources: Sequence[int], left: int) -> None:
        """Keep `left` rows: those at `sources` take the places of some that leave, the others stay where they are."""
        if places:
            index = [torch.tensor(rows, device=self.born_at.device) for rows in (places, sources)]
            for layer in self.layers:
                layer.move(*index)
        born = list(self.born)
        for place, source in zip(places, sources, strict=True):
            born[place] = born[source]
        self.rows = left
        self.reborn(born[:left])

    def reborn(self, born: list[int]) -> None:
        """Take note of the rows' times."""
        self.born = born
        self.born_at = torch.tensor(born, dtype=torch.long, device=self.born_at.device)
        self.longest = self.clock - min(born, default=self.clock)
