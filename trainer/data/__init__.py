"""Prompts: where they come from, how they become what the model sees, and which a step trains on.

`sources` reads files and hub data sets, `rows` turns their columns into prompts, `prompts` says which rows a step
trains on and which are held out, `fitting` encodes prompts and refuses or drops what the model cannot take, `build`
puts them together from a configuration.
"""

from trainer.data.build import build_prompts, build_task, max_new_tokens
from trainer.data.fitting import encode_prompts, fit_prompts, with_chat
from trainer.data.prompts import FilePrompts, PromptSource, TaskPrompts
from trainer.data.rows import Layout, Row, read_rows

__all__ = [
    "FilePrompts",
    "Layout",
    "PromptSource",
    "Row",
    "TaskPrompts",
    "build_prompts",
    "build_task",
    "encode_prompts",
    "fit_prompts",
    "max_new_tokens",
    "read_rows",
    "with_chat",
]
