"""HTML with every text escaped unless it is HTML already, and the parts that a report is made of."""

import html
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from figures.report_draw import Panel
from figures.style import Line

# What a completion may hold, since a tokenizer can make any bytes, and a page may not.
UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
EMPTY = frozenset({"img", "meta", "br"})
STYLE = Path(__file__).parent / "data" / "report.css"


class Html(str):
    """Text that is HTML; all other text is escaped where it meets HTML."""

    __slots__ = ()


def tag(name: str, *children: str | Iterable[str], **attributes: str) -> Html:
    """Return an element; `class_` stands for class.

    >>> tag("p", "a < b", tag("b", "c"), class_="x")
    '<p class="x">a &lt; b<b>c</b></p>'
    """
    given = "".join(f' {key.rstrip("_")}="{clean(value)}"' for key, value in attributes.items())
    if name in EMPTY:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{together(*children)}</{name}>")


def together(*children: str | Iterable[str]) -> Html:
    """Return pieces one after the other."""
    parts: list[str] = []
    for child in children:
        pieces = [child] if isinstance(child, str) else child
        parts += [piece if isinstance(piece, Html) else clean(piece) for piece in pieces]
    return Html("".join(parts))


def clean(text: str) -> str:
    r"""Return text as HTML shows it: escaped, with a replacement for what a page may not hold.

    >>> clean("<b>\x00\ud800")
    '&lt;b&gt;\ufffd\ufffd'
    """
    return html.escape(UNSHOWABLE.sub("\ufffd", text))


def table(rows: pd.DataFrame, *, wide: bool = False) -> Html:
    """Return a table of text with its index as row headings, in a box that scrolls sideways where it must.

    Args:
        rows: cells are text.
        wide: cells hold words, which may break; else they stay on one line.
    """
    head = tag("tr", tag("td"), [tag("th", str(name), scope="col") for name in rows.columns])
    body = [
        tag("tr", tag("th", str(name), scope="row"), [tag("td", str(cell)) for cell in cells])
        for name, cells in zip(rows.index, rows.to_numpy(), strict=True)
    ]
    whole = tag("table", tag("thead", head), tag("tbody", body), class_="words" if wide else "numbers")
    return tag("div", whole, class_="scroll")


def figure(panel: Panel) -> Html:
    """Return a panel with its title and text."""
    data = b64encode(panel.svg.encode()).decode()
    image = tag("img", src=f"data:image/svg+xml;base64,{data}", alt=f"{panel.title}. {panel.text}".strip())
    title = tag("figcaption", tag("b", panel.title))
    return tag("figure", title, image, tag("p", panel.text) if panel.text else Html())


def grid(panels: Iterable[Panel]) -> Html:
    """Return panels beside each other as the width allows."""
    return tag("div", [figure(panel) for panel in panels], class_="grid")


def legend(looks: Mapping[str, Line]) -> Html:
    """Return what is drawn how: a piece of each line with its name."""
    return tag("p", [tag("span", swatch(look), name) for name, look in looks.items()], class_="legend")


def swatch(look: Line) -> Html:
    """Return a short piece of a line."""
    dash = "" if look.dash == "-" else f' stroke-dasharray="{" ".join(f"{2 * part:g}" for part in look.dash[1])}"'
    return Html(
        '<svg width="34" height="10" aria-hidden="true">'
        f'<line x1="0" y1="5" x2="34" y2="5" stroke="{look.color}" stroke-width="3"{dash}/></svg>'
    )


def boxes(colors: Mapping[str, str]) -> Html:
    """Return what has which colour."""
    return tag(
        "p",
        [tag("span", tag("i", style=f"background:{color}"), name) for name, color in colors.items()],
        class_="legend",
    )


def details(summary: str, *children: str | Iterable[str], opened: bool = False) -> Html:
    """Return a part that opens when its summary is clicked, without scripts."""
    return tag("details", tag("summary", summary), *children, **({"open": ""} if opened else {}))


def section(title: str, *children: str | Iterable[str]) -> Html:
    """Return a part of the page under a heading."""
    return tag("section", tag("h2", title), *children)


def items(texts: Sequence[str]) -> Html:
    """Return a list."""
    return tag("ul", [tag("li", text) for text in texts])


def page(title: str, *children: str | Iterable[str]) -> str:
    """Return a whole page that needs no other file and no script."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Html(STYLE.read_text())),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *children)), lang='en')}\n"
