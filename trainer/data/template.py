"""Templates of prompts: text with the names of columns in braces."""

from collections.abc import Mapping
from string import Formatter
from typing import Any


def pieces(template: str) -> list[tuple[str, str | None]]:
    """Return the pieces of a template: literal text, and the name in braces after it (None at the end).

    Doubled braces are literal ones. What follows a name in its braces belongs to it: values are not formatted.

    Raises:
        ValueError: a single brace.

    >>> pieces("Q: {question} A: {{}}")
    [('Q: ', 'question'), (' A: {', None), ('}', None)]
    """
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"data.template={template!r} must hold names of columns in braces; got: {error}. "
            "Write {{ and }} for braces that are meant as such."
        ) from error
    return [
        (text, name if name is None else name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else ""))
        for text, name, spec, conversion in parsed
    ]


def names(template: str) -> set[str]:
    """Return the names in braces.

    >>> names("{prompt}")
    {'prompt'}
    """
    return {name for _, name in pieces(template) if name is not None}


def filled(template: str, values: Mapping[str, Any]) -> str:
    """Return the template with a value for each name; braces in values are left as they are.

    >>> filled("Q: {prompt} {{}}", {"prompt": "{x}"})
    'Q: {x} {}'
    """
    return "".join(text + ("" if name is None else str(values[name])) for text, name in pieces(template))
