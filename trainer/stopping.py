"""When a completion ends: with a stop token, with a stop text, or at its greatest length."""

from collections.abc import Sequence

from trainer.model import Policy

# Tokens looked at before those that a stop text can fill: decoders strip or merge at the edge of what they are given.
MARGIN = 8
# What decoders write for bytes that are no whole character.
UNREADABLE = "\ufffd"


class StopTexts:
    """Looks for texts in the end of a completion, as `Policy.decode` writes it.

    A text of n bytes fills at most n tokens, so few are decoded; and only after a token that can complete a text.

    Args:
        policy: its tokenizer is used.
        texts: the stop texts.
    """

    def __init__(self, policy: Policy, texts: Sequence[str]) -> None:
        self.policy, self.texts = policy, tuple(texts)
        self.window = MARGIN + max((len(text.encode()) for text in texts), default=0)
        self.completing: dict[int, bool] = {}

    def found(self, completion: Sequence[int]) -> bool:
        """Return whether the text of a completion holds a stop text, given that it did not before its last token."""
        if not self.may_complete(completion[-1]):
            return False
        # Alone, the last tokens may read otherwise than in the whole text, which says: pieces of characters at the edge
        # can make all bytes that follow unreadable, and spaces there get lost.
        end = self.text_of(completion[-self.window :])
        return (self.in_text(end) or UNREADABLE in end) and self.in_text(self.text_of(completion))

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return the text of these tokens."""
        (text,) = self.policy.decode([tokens])
        return text

    def in_text(self, text: str) -> bool:
        """Return whether a text holds a stop text."""
        return any(stop in text for stop in self.texts)

    def may_complete(self, token: int) -> bool:
        """Return whether a stop text can end in this token, judged by its own text.

        A piece of a character is unreadable, and spaces at an edge may be missing: with either, it may.
        """
        if token not in self.completing:
            text, ends = self.text_of([token]), {stop[-1] for stop in self.texts}
            self.completing[token] = UNREADABLE in text or any(end in text or end.isspace() for end in ends)
        return self.completing[token]


class Endings:
    """Keeps account of the completions' lengths and ends.

    Args:
        policy: its stop tokens end a completion.
        count: completions.
        max_new_tokens: their greatest length.
        texts: stop texts.
    """

    def __init__(self, policy: Policy, count: int, max_new_tokens: int, texts: Sequence[str]) -> None:
        self.stop_ids, self.longest = set(policy.stop_ids), max_new_tokens
        self.texts = StopTexts(policy, texts)
        self.lengths = [0] * count
        self.finished = [False] * count
        # Token ids are remembered only for stop texts.
        self.completions: list[list[int]] = [[] for _ in range(count if texts else 0)]

    def of(self, rows: Sequence[int], tokens: Sequence[int]) -> list[int]:
        """Return the places, in these lists, of the rows that end with their newest token."""
        ended = []
        for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            self.lengths[row] += 1
            self.finished[row] = token in self.stop_ids or (bool(self.texts.texts) and self.text_ends(row, token))
            if self.finished[row] or self.lengths[row] == self.longest:
                ended.append(place)
        return ended

    def text_ends(self, row: int, token: int) -> bool:
        """Return whether a row's text ends with this token."""
        self.completions[row].append(token)
        return self.texts.found(self.completions[row])
