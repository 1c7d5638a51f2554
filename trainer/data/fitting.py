"""Prompts as tokens: what the model cannot take is refused, or dropped where that was asked for."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trainer.chat import ChatFormat
from trainer.config import DataConfig, TrainConfig
from trainer.data.build import max_new_tokens
from trainer.data.prompts import PromptSource
from trainer.data.rows import Row
from trainer.model import Policy
from trainer.workers import ALONE, Workers

# Prompts encoded together: enough to keep every core busy, few enough to hold their tokens.
CHUNK = 2048


@dataclass(frozen=True)
class Limit:
    """The longest prompt.

    Args:
        context: tokens that the model takes.
        new_tokens: tokens that are left for the completion.
        configured: `data.max_prompt_tokens`; 0 for none.
    """

    context: int
    new_tokens: int
    configured: int = 0

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        room = self.context - self.new_tokens
        return min(room, self.configured) if self.configured else room

    def __str__(self) -> str:
        if self.tokens == self.configured:
            return f"data.max_prompt_tokens {self.configured}"
        return f"context {self.context} less rollout.max_new_tokens {self.new_tokens}"

    @property
    def remedy(self) -> str:
        """What raises it."""
        setting = "raise data.max_prompt_tokens" if self.tokens == self.configured else "lower rollout.max_new_tokens"
        return f"Shorten the prompt or {setting}."

    def check(self) -> None:
        """Refuse a limit that no prompt can meet.

        Raises:
            ValueError: completions take the whole context.
        """
        if self.context <= self.new_tokens:
            raise ValueError(
                f"rollout.max_new_tokens={self.new_tokens} must leave room for a prompt; got a context of "
                f"{self.context} tokens. Lower it."
            )


def with_chat(policy: Policy, data: DataConfig) -> Policy:
    """Return the policy with the chat format that the configuration asks for.

    Raises:
        ValueError: a tokenizer without a chat template.
    """
    if not data.chat:
        return policy
    if not policy.tokenizer.chat_template:
        raise ValueError(
            "data.chat=True must go with a tokenizer that has a chat template; got one without. Take an "
            "instruction-tuned model, save a chat_template.jinja beside the tokenizer, or set data.chat: false and "
            "write the prompt with data.template."
        )
    return replace(policy, chat=ChatFormat(data.system, data.chat_options))


def encode_prompts(policy: Policy, rows: Sequence[Row], new_tokens: int) -> list[list[int]]:
    """Return the token ids of each row's prompt.

    Raises:
        ValueError: an empty prompt, one that leaves no room for its completion in the model's context, or one with
            words that the tokenizer does not know.
    """
    limit = Limit(policy.context_length, new_tokens)
    ids = encode_known(policy, rows, limit)
    for row, tokens in zip(rows, ids, strict=True):
        if len(tokens) > limit.tokens:
            refuse_length(row, tokens, limit)
    return ids


def fit_prompts(
    policy: Policy, prompts: PromptSource, config: TrainConfig, *, train: bool = True, workers: Workers = ALONE
) -> PromptSource:
    """Return the source without prompts that are too long, every one that is known beforehand having been encoded once.

    Args:
        policy: encodes them.
        prompts: the source.
        config: the run: lengths, and whether a prompt that is too long may be left out.
        train: whether the training prompts are looked at too.
        workers: the processes that do the same, of which one says what is left out.

    Raises:
        ValueError: a prompt that the model cannot take, or none that is short enough.
    """
    limit = Limit(policy.context_length, max_new_tokens(config), config.data.max_prompt_tokens)
    limit.check()
    drop = config.data.too_long == "drop"
    say = workers.say
    return prompts.fitting(lambda name, rows: fitting_rows(policy, rows, name, limit, drop=drop, say=say), train=train)


def fitting_rows(
    policy: Policy, rows: Sequence[Row], name: str, limit: Limit, *, drop: bool, say: Callable[[str], None]
) -> list[Row]:
    """Return the rows whose prompts are within the limit; a longer one is refused unless it may be dropped."""
    kept, shortest = [], sys.maxsize
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        ids = encode_known(policy, part, limit)
        refuse_foreign(policy, part, ids)
        for row, tokens in zip(part, ids, strict=True):
            shortest = min(shortest, len(tokens))
            if len(tokens) <= limit.tokens:
                kept.append(row)
            elif not drop:
                refuse_length(row, tokens, limit, or_drop=True)
    if not kept:
        raise ValueError(
            f"fit_prompts({name!r}) must hold prompts of at most {limit.tokens} tokens ({limit}); got none among "
            f"{len(rows)}, the shortest has {shortest}. {limit.remedy}"
        )
    if len(kept) < len(rows):
        say(
            f"{name}: left out {len(rows) - len(kept)} of {len(rows)} prompts, which have more than {limit.tokens} "
            f"tokens ({limit})."
        )
    return kept


def encode_known(policy: Policy, rows: Sequence[Row], limit: Limit) -> list[list[int]]:
    """Return the token ids of each row's prompt; one that is empty or holds unknown words is refused."""
    ids = policy.encode([row["prompt"] for row in rows])
    tokenizer = policy.tokenizer
    # Some tokenizers use one token for unknown words and for the beginning or end.
    others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    unknown = None if tokenizer.unk_token_id in others else tokenizer.unk_token_id
    for row, tokens in zip(rows, ids, strict=True):
        if unknown is not None and unknown in tokens:
            raise ValueError(
                f"encode_prompts(prompt={shown(row)}) must hold known words alone; got some that "
                "the tokenizer maps to its unknown token. Take a model whose tokenizer fits the prompts."
            )
        if not tokens:
            refuse_length(row, tokens, limit)
    return ids


def refuse_foreign(policy: Policy, rows: Sequence[Row], ids: Sequence[Sequence[int]]) -> None:
    """Refuse prompts with tokens that the model has no embedding for: the tokenizer is another model's."""
    size = policy.model.get_input_embeddings().weight.shape[0]
    if len(policy.tokenizer) <= size:
        return
    for row, tokens in zip(rows, ids, strict=True):
        if max(tokens) >= size:
            raise ValueError(
                f"fit_prompts(prompt={shown(row)}) must hold tokens of the model's vocabulary of {size}; got "
                f"{max(tokens)} from a tokenizer of {len(policy.tokenizer)}. Put the model's own tokenizer beside it, "
                "and check model.path."
            )


def refuse_length(row: Row, tokens: Sequence[int], limit: Limit, *, or_drop: bool = False) -> None:
    """Refuse a prompt of this many tokens; say whether it may be left out."""
    drop = " data.too_long: drop leaves such prompts out." if or_drop else ""
    raise ValueError(
        f"encode_prompts(prompt={shown(row)}) must have 1 to {limit.tokens} tokens ({limit}); got {len(tokens)}. "
        f"{limit.remedy}{drop}"
    )


def shown(row: Row) -> str:
    """Return the beginning of a row's prompt, of a conversation its last message, as a message shows it."""
    prompt = row["prompt"]
    return repr((prompt if isinstance(prompt, str) else prompt[-1]["content"])[:60])
