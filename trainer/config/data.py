"""Prompts and how their completions are scored."""

from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.config.checks import require


@dataclass(frozen=True)
class HeldOutConfig:
    """A held-out set whose columns are not those of the training prompts.

    Args:
        source: its file or hub data set, as `data.prompts`.
        prompt_column: the column that holds its prompts; null for `data.prompt_column`.
        columns: its further columns; null for `data.columns`.
        template: the text that its prompts are made from; null for `data.template`.
    """

    source: str
    prompt_column: str | None = None
    columns: dict[str, str] | None = None
    template: str | None = None


@dataclass(frozen=True)
class DataConfig:
    """Where prompts come from: a task that draws them, or a file.

    Reward functions are given `prompts` as the rows have them: the text, made by `template` where there is one, or the
    conversation; without `system` and without what the chat template writes around them.

    Args:
        task: name of a task, or `module:Class` of your own; ignored when `prompts` is given.
        prompts: a .jsonl file, one prompt a line; or, with the extra `data`, a .parquet or .csv file, or a hub data
            set as owner/name, owner/name:split or owner/name/configuration:split. Other columns go to the rewards.
        held_out: the same for held-out evaluation, or several by name, such as {gsm8k: a.jsonl, math: b.jsonl}, where
            one with other columns is {source: b.jsonl, prompt_column: problem}; with a task, its test split is used.
        prompt_column: the column that holds the prompt: text, or a conversation (a list of {role, content}).
        columns: further columns under the names that the rewards expect, such as {answer: solution}; a part of a
            column that holds mappings is outer.inner, as in {answer: reward_model.ground_truth}.
        template: text with {prompt} and any other column in braces, from which each prompt is made, {{ and }} standing
            for braces; null leaves prompts as they are.
        chat: pass prompts through the tokenizer's chat template, plain text as a user's message.
        system: a system message before each conversation; needs `chat`.
        chat_options: further arguments of the chat template, such as {enable_thinking: false}.
        max_prompt_tokens: longest prompt of a file; 0 takes what the model's context leaves.
        too_long: `refuse` a longer prompt, or `drop` it before the run and say how many.
        overlap: `refuse` held-out prompts that are trained on too, or `allow` them.
    """

    task: str = "countdown"
    prompts: str | None = None
    held_out: str | dict[str, str | HeldOutConfig] | None = None
    prompt_column: str = "prompt"
    columns: dict[str, str] = field(default_factory=dict)
    template: str | None = None
    chat: bool = False
    system: str | None = None
    chat_options: dict[str, Any] = field(default_factory=dict)
    max_prompt_tokens: int = 0
    too_long: Literal["refuse", "drop"] = "refuse"
    overlap: Literal["refuse", "allow"] = "refuse"

    def __post_init__(self) -> None:
        require(self.max_prompt_tokens >= 0, f"data.max_prompt_tokens={self.max_prompt_tokens} must not be negative.")
        require(
            self.chat or not (self.system or self.chat_options),
            "data.system and data.chat_options must go with data.chat=true. Set it, or leave them out.",
        )


@dataclass(frozen=True)
class RewardConfig:
    """How completions are scored.

    Args:
        function: name of a built-in reward (countdown, exact_match, gsm8k, boxed_math, format, overlong), or
            `module:name` of your own, with TRL's reward signature; or several with their weights, such as
            {gsm8k: 1.0, format: 0.2}: the reward is the weighted sum of those that do not answer None. In evaluation
            the first one alone is asked, and a completion is right where it gives more than 0. null takes the task's
            own verifier.
        options: hyper-parameters of rewards that are classes, by name, such as {overlong: {limit: 3072}}.
        convention: `as_is`, or `signed`, which maps rewards in [0, 1] to 2 r - 1 before advantages are computed.
        timeout_s: seconds that checking one mathematical answer may take; past it the sample scores 0.
    """

    function: str | dict[str, float] | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    convention: Literal["as_is", "signed"] = "as_is"
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        require(self.timeout_s > 0, f"reward.timeout_s={self.timeout_s} must be above 0.")
        require(self.function != {}, "reward.function={} must name at least one reward. Leave it null for the task's.")
