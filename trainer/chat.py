"""How prompts become conversations, and conversations the tokens that an instruction-tuned model expects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import TemplateError

Conversation = list[dict[str, Any]]
# A template has the special tokens in it; prompts are padded where they are batched, and never cut.
OURS = {"tokenize": True, "return_dict": False, "return_tensors": None, "padding": False, "truncation": False}


@dataclass(frozen=True)
class ChatFormat:
    """The chat template of a tokenizer, with what it is given beside the conversation.

    Args:
        system: a system message before each conversation.
        options: further arguments of the template, such as {"enable_thinking": False}.
    """

    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def conversation(self, prompt: str | Conversation) -> Conversation:
        """Return the conversation of a prompt; text is a user's message.

        Raises:
            ValueError: a second system message, or an answer at the end that is not to be continued.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        first, last = messages[0], messages[-1]
        if self.system and first["role"] == "system":
            raise ValueError(
                f"data.system={self.system!r} must go with conversations without a system message; got one with "
                f"{first['content'][:60]!r}. Leave data.system null."
            )
        if last["role"] == "assistant" and not self.options.get("continue_final_message"):
            raise ValueError(
                "A prompt must end before the assistant's turn; got a conversation that ends with its message "
                f"{last['content'][:60]!r}. Leave the answer out, or set data.chat_options: "
                "{continue_final_message: true} to have it continued."
            )
        return [{"role": "system", "content": self.system}, *messages] if self.system else messages

    def encode(self, tokenizer: Any, prompts: Sequence[str | Conversation]) -> list[list[int]]:
        """Return the token ids of each prompt, up to where the assistant's turn begins.

        No special tokens are added to those that the template writes.

        Raises:
            ValueError: a conversation that the template does not take.
        """
        conversations = [self.conversation(prompt) for prompt in prompts]
        begin = {"add_generation_prompt": not self.options.get("continue_final_message")}
        try:
            return tokenizer.apply_chat_template(conversations, **{**begin, **self.options, **OURS})
        except TemplateError as error:
            raise ValueError(
                f"The tokenizer's chat template must take every conversation; got: {error}. Check the roles in the "
                "prompts, data.system and data.chat_options."
            ) from error
