"""The arms of the training study: their names for readers, their families, and one look for each in every figure."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from figures.style import INK, Line

ORANGE, SKY, GREEN, BLUE, RED, PINK = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
DASHED: Any = (0, (5, 1.5))
DOTTED: Any = (0, (1.5, 1))


@dataclass(frozen=True)
class Arm:
    """How an arm is named and drawn.

    Args:
        text: its name for readers.
        family: the panel of Figure 6 that it stands in.
        line: its look.
        paper: the row of the paper's Table 2 that it corresponds to, "" for none.
    """

    text: str
    family: str
    line: Line
    paper: str = ""


BASE = "base algorithm"
BONUS = "entropy bonus"
CLIPS = "clipping and covariance"
SIGNS = "signs reweighted"
TOKENS = "tokens reweighted"
RELAY = "relays on the band"
PREDICTIVE = "predictive (ours)"

ARMS: dict[str, Arm] = {
    "grpo": Arm("GRPO", BASE, Line(INK, "-", "o"), "GRPO"),
    "bonus_0.003": Arm("bonus 0.003", BONUS, Line(SKY, DASHED, "<"), "GRPO+EntropyLoss"),
    "bonus_0.01": Arm("bonus 0.01", BONUS, Line(ORANGE, DASHED, "v"), "GRPO+EntropyLoss"),
    "bonus_0.03": Arm("bonus 0.03", BONUS, Line(ORANGE, "-", "v")),
    "aec": Arm("AEC", BONUS, Line(GREEN, DOTTED, ">")),
    "grpo_half_rate": Arm("GRPO, half the rate", BASE, Line(INK, DASHED, "s")),
    "clip_higher": Arm("Clip-Higher", CLIPS, Line(GREEN, "-", "P"), "GRPO+Clip-Higher"),
    "clip_cov": Arm("Clip-Cov", CLIPS, Line(SKY, DASHED, "X"), "GRPO+Clip-Cov"),
    "kl_cov": Arm("KL-Cov", CLIPS, Line(ORANGE, DOTTED, "p")),
    "w_reinforce": Arm("W-REINFORCE", SIGNS, Line(GREEN, "-", "d"), "W-Reinforce"),
    "nsr": Arm("NSR", SIGNS, Line(SKY, DASHED, "h")),
    "entropic": Arm("EntroPIC", SIGNS, Line(ORANGE, "-", "H")),
    "entropic_paper": Arm("EntroPIC (the paper's)", SIGNS, Line(PINK, DOTTED, "8"), "EntroPIC"),
    "repo_r": Arm("REPO-R", TOKENS, Line(GREEN, "-", "1")),
    "flexible_id": Arm("Flexible-ID", TOKENS, Line(SKY, DASHED, "2")),
    "flexible_od": Arm("Flexible-OD", TOKENS, Line(ORANGE, DOTTED, "3")),
    "algorithm1": Arm("Algorithm 1", RELAY, Line(RED, "-", "s"), "GRPO+Entrocraft"),
    "algorithm1_2_epochs": Arm("Algorithm 1, 2 epochs", RELAY, Line(RED, DASHED, "$2$")),
    "algorithm1_4_epochs": Arm("Algorithm 1, 4 epochs", RELAY, Line(RED, DOTTED, "$4$")),
    "released": Arm("released", RELAY, Line(PINK, "-", "D"), "GRPO+Entrocraft"),
    "released_2_epochs": Arm("released, 2 epochs", RELAY, Line(PINK, DASHED, "$2$")),
    "released_4_epochs": Arm("released, 4 epochs", RELAY, Line(PINK, DOTTED, "$4$")),
    "rejection": Arm("rejection", PREDICTIVE, Line(SKY, DASHED, "^")),
    "rejection_directional": Arm("rejection, directional", PREDICTIVE, Line(SKY, "-", "^")),
    "rejection_below": Arm("rejection, below", PREDICTIVE, Line(SKY, DOTTED, "v")),
    "soft": Arm("soft weights", PREDICTIVE, Line(GREEN, DASHED, "*")),
    "soft_directional": Arm("soft weights, directional", PREDICTIVE, Line(GREEN, "-", "*")),
    "soft_below": Arm("soft weights, below", PREDICTIVE, Line(GREEN, DOTTED, "X")),
    "soft_tokens": Arm("soft weights of tokens", PREDICTIVE, Line(ORANGE, DASHED, "*")),
    "solved_bonus": Arm("solved bonus", PREDICTIVE, Line(BLUE, DASHED, "o")),
    "solved_bonus_directional": Arm("solved bonus, directional", PREDICTIVE, Line(BLUE, "-", "o")),
}
# Arms of the study of long runs alone.
LONG = ("grpo_half_rate", "bonus_0.01")
CONTROLLERS = [name for name in ARMS if name not in LONG]
FAMILIES = tuple(dict.fromkeys(arm.family for arm in ARMS.values()))
# The predictive forms, and of each the arms that may stand for it: the first that was run does.
FORMS = (
    ("solved_bonus_directional", "solved_bonus"),
    ("soft_directional", "soft"),
    ("rejection_directional", "rejection"),
)
SCHEDULES = {"constant": (BLUE, "-", "o"), "linear": (RED, DASHED, "s"), "cosine": (GREEN, DOTTED, "^")}


def arm_of(name: str) -> Arm:
    """Return the arm of a name; an arm with something added looks as the arm does; others have a look of their name.

    >>> arm_of("grpo").text, arm_of("soft_linear").text, arm_of("my_own").text
    ('GRPO', 'soft weights, linear', 'my own')
    """
    if name in ARMS:
        return ARMS[name]
    longest = max((known for known in ARMS if name.startswith(f"{known}_")), key=len, default=None)
    if longest:
        added = name.removeprefix(f"{longest}_").replace("_", " ")
        return replace(ARMS[longest], text=f"{ARMS[longest].text}, {added}", paper="")
    colors = (ORANGE, SKY, GREEN, BLUE, RED, PINK)
    place = sum(map(ord, name))
    return Arm(name.replace("_", " "), "others", Line(colors[place % 6], (DASHED, DOTTED)[place % 2], "x"))


def leading(present: Collection[str], forms: int = 1) -> list[str]:
    """Return the predictive arms that stand for all where a figure has room for so many forms, of those present.

    >>> leading({"grpo", "soft", "soft_directional", "rejection"}, forms=2)
    ['soft_directional', 'rejection']
    """
    found = [name for form in FORMS if (name := next((arm for arm in form if arm in present), None))]
    return found[:forms]


def in_order(present: set[str]) -> list[str]:
    """Return arms in the order of `ARMS`, those that it does not list last."""
    return [*(name for name in ARMS if name in present), *sorted(present - set(ARMS))]
