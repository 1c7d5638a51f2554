"""Which methods do not go together, and why: what a run would otherwise do silently wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Chosen = Mapping[str, Any]


@dataclass(frozen=True)
class Conflict:
    """A combination that is refused.

    Args:
        applies: whether the settings (and optimiser steps a batch, 0 where not known) have it.
        reason: what would go wrong, and the remedy.
    """

    applies: Callable[[Chosen, int], bool]
    reason: str


def needs_grpo(name: str) -> Conflict:
    """Return the refusal of another estimator under a shaping that rescales GRPO's advantages."""
    return Conflict(
        lambda chosen, updates: chosen["shaping"] == name and chosen["advantage"] not in ("grpo", "dr_grpo", "rloo"),
        f"shaping={name!r} redistributes the advantages of a group that has a baseline; choose advantage: grpo.",
    )


def on_policy(name: str) -> Conflict:
    """Return the refusal of reuse under a method whose statistics hold for the first optimiser step alone."""
    return Conflict(
        lambda chosen, updates: chosen["shaping"] == name and updates > 1,
        f"shaping={name!r} weighs tokens by the entropy change of one strictly on-policy step; set mini_batches: 1 and "
        "epochs: 1.",
    )


def weighs_tokens(chosen: Chosen) -> bool:
    """Return whether the filter weighs each token on its own; all rollouts then have weight 1."""
    return bool(chosen["filter"] == "soft" and (chosen.get("filter_options") or {}).get("level") == "token")


SELECTIONS = ("psr", "nsr")
# Denominators of the accepted rollouts alone, and those that are not the batch's number of tokens even with all.
OVER_ACCEPTED, PER_ROLLOUT = ("drop", "sequence", "max_length"), ("sequence", "max_length")

CONFLICTS = (
    Conflict(
        lambda chosen, updates: chosen["filter"] == "released" and chosen["shaping"] is not None,
        "filter='released' replaces the advantages by raw rewards outside the band, so that shaping would act only "
        "inside it; choose one of the two.",
    ),
    Conflict(
        lambda chosen, updates: chosen["filter"] in ("algorithm1", "released") and chosen["advantage"] in SELECTIONS,
        "this filter keeps advantages of one sign, and the advantage has one sign: on one side of the band nothing is "
        "left, on the other nothing is filtered; choose an advantage of both signs such as grpo or w_reinforce.",
    ),
    Conflict(
        lambda chosen, updates: (
            chosen["filter"] == "soft" and not weighs_tokens(chosen) and chosen["denominator"] in OVER_ACCEPTED
        ),
        "filter='soft' predicts over the denominator of all rollouts, and this one leaves out those that get weight 0; "
        "set denominator: zero.",
    ),
    Conflict(
        lambda chosen, updates: weighs_tokens(chosen) and chosen["token_weight"] is not None,
        "filter='soft' at level: token weighs each token by what it is predicted to do, and a token weight beside it "
        "changes just that; drop token_weight, or choose level: rollout.",
    ),
    Conflict(
        lambda chosen, updates: chosen["filter"] == "rejection" and chosen["denominator"] != "zero",
        "filter='rejection' predicts over the denominator of all rollouts, and others leave out those that are "
        "rejected; set denominator: zero.",
    ),
    Conflict(
        lambda chosen, updates: chosen["filter"] == "solved_bonus" and chosen["denominator"] in PER_ROLLOUT,
        "filter='solved_bonus' solves for a bonus on the mean entropy over tokens, and this denominator is not their "
        "number; set denominator: zero.",
    ),
    Conflict(
        lambda chosen, updates: chosen["clip"] == "gspo" and chosen["token_weight"] in ("clip_cov", "steer"),
        "clip='gspo' has one ratio a sequence, and this token weight is defined on token ratios; choose clip: ppo.",
    ),
    Conflict(
        lambda chosen, updates: "kl_cov" in chosen["terms"] and updates == 1,
        "terms kl_cov penalises |log ratio|, whose gradient is 0 at the first optimiser step of a batch: with one step "
        "a batch it does nothing; raise mini_batches or epochs.",
    ),
    Conflict(
        lambda chosen, updates: "aec" in chosen["terms"] and "entropy_bonus" in chosen["terms"],
        "terms aec controls the coefficient of the entropy bonus, and a fixed one beside it would undo that; drop one.",
    ),
    Conflict(
        lambda chosen, updates: (
            chosen["filter"] == "solved_bonus" and bool({"aec", "entropy_bonus"} & {*chosen["terms"]})
        ),
        "filter='solved_bonus' solves for the coefficient of the entropy bonus; drop the other bonus.",
    ),
    Conflict(
        lambda chosen, updates: chosen["shaping"] == "dcpo" and chosen["filter"] in ("algorithm1", "released"),
        "shaping='dcpo' gives right answers a positive advantage in every group, and this filter goes by the "
        "advantage's sign; choose one of the two.",
    ),
    needs_grpo("ucpo"),
    on_policy("opefo"),
)


def check_combination(chosen: Chosen, *, group_size: int | None = None, updates: int | None = None) -> None:
    """Refuse methods that do not go together.

    Args:
        chosen: a name for each slot.
        group_size: G, None where not known.
        updates: optimiser steps a batch, None where not known.

    Raises:
        ValueError: with the reason and the remedy.
    """
    for conflict in CONFLICTS:
        if conflict.applies(chosen, updates or 0):
            raise ValueError(f"algorithm: {conflict.reason}")
    if group_size == 1 and chosen["advantage"] in ("rloo", "dr_grpo", "asym_grpo"):
        raise ValueError(
            f"algorithm.advantage={chosen['advantage']!r} compares the samples of a prompt; got rollout.group_size=1. "
            "Raise rollout.group_size, or choose algorithm.advantage: reinforce."
        )
