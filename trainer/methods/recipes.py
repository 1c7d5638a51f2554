"""The field's methods as published: which stages, and their authors' hyper-parameters.

A recipe states differences from `assembly.DEFAULTS`; `--config NAME` puts one on top of any preset, and the simulations
run the same ones. Learning rates, batch sizes, schedules and the KL penalty of a paper's runs are the run's own, not
part of a recipe, unless the method is defined with them. Where a row of `entrocraft methods` says "ours", so does the
recipe that uses it: its numbers say nothing about the authors' method.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A published method.

    Args:
        settings: as `assembly.assemble` takes them.
        source: paper or code.
        reward: `signed` where the method is defined on rewards of -1 and 1, else `as_is`.
        mini_batches: least number of optimiser steps a batch without which it does nothing; 0 where there is none.
        on_policy: one optimiser step a batch is part of the method.
    """

    settings: Mapping[str, Any]
    source: str
    reward: str = "as_is"
    mini_batches: int = 0
    on_policy: bool = False


def _with(**settings: Any) -> dict[str, Any]:
    return settings


UNCLIPPED = _with(clip="unclipped")
RECIPES: dict[str, Recipe] = {
    # The paper's own
    "grpo": Recipe({}, "arXiv 2402.03300, with token-mean loss as in arXiv 2604.26326"),
    "algorithm1": Recipe(_with(filter="algorithm1", denominator="drop"), "arXiv 2604.26326, Algorithm 1"),
    "released": Recipe(_with(filter="released", denominator="zero"), "github.com/lblaoke/entrocraft", "signed"),
    # Advantage estimators
    "reinforce": Recipe(_with(advantage="reinforce", **UNCLIPPED), "Williams 1992"),
    "raft": Recipe(_with(advantage="raft", denominator="zero", **UNCLIPPED), "arXiv 2504.11343"),
    "raft_plus_plus": Recipe(_with(advantage="raft", denominator="zero"), "arXiv 2504.11343"),
    "reinforce_rej": Recipe(_with(advantage="reinforce_rej"), "arXiv 2504.11343", "signed"),
    "psr": Recipe(_with(advantage="psr", filter="nonzero"), "arXiv 2506.01347"),
    "nsr": Recipe(_with(advantage="nsr", filter="nonzero"), "arXiv 2506.01347"),
    "w_reinforce": Recipe(_with(advantage="w_reinforce"), "arXiv 2506.01347"),
    "dr_grpo": Recipe(
        _with(advantage="dr_grpo", denominator="max_length", denominator_options={"length": 3072}), "arXiv 2503.20783"
    ),
    "rloo": Recipe(_with(advantage="rloo", **UNCLIPPED), "arXiv 2402.14740"),
    "reinforce_plus_plus": Recipe(_with(advantage="reinforce", shaping="whiten"), "arXiv 2501.03262"),
    "reinforce_plus_plus_baseline": Recipe(_with(advantage="dr_grpo", shaping="whiten"), "arXiv 2501.03262"),
    "asym_grpo": Recipe(_with(advantage="asym_grpo"), "arXiv 2604.04894"),
    "ucpo": Recipe(_with(shaping="ucpo"), "arXiv 2605.00365"),
    "aem": Recipe(_with(shaping="aem"), "arXiv 2605.00425"),
    "repo": Recipe(_with(shaping="repo", shaping_options={"beta": 0.01}), "arXiv 2603.11682"),
    "repo_r": Recipe(_with(advantage="rloo", token_weight="repo_r"), "arXiv 2603.11682"),
    "dcpo": Recipe(_with(shaping="dcpo"), "github.com/597358816/AEPO"),
    "positive_reweighting": Recipe(_with(shaping="positive_reweighting"), "arXiv 2511.05993"),
    # Filters
    "dapo": Recipe(_with(filter="dapo_groups", clip_options={"high": 0.28}), "arXiv 2503.14476"),
    # Token weights and masks
    "clip_cov": Recipe(
        _with(token_weight="clip_cov", filter="dapo_groups", clip_options={"low": 1.0, "high": 1.0}), "arXiv 2505.22617"
    ),
    "kl_cov": Recipe(
        _with(terms={"kl_cov": {}}, filter="dapo_groups", **UNCLIPPED), "arXiv 2505.22617", mini_batches=2
    ),
    "clip_b": Recipe(_with(shaping="clip_b"), "arXiv 2602.03392"),
    "clip_v": Recipe(_with(shaping="clip_v"), "arXiv 2602.03392"),
    "steer": Recipe(_with(token_weight="steer"), "arXiv 2510.10150"),
    "opefo": Recipe(_with(shaping="opefo"), "OPEFO", on_policy=True),
    "entropic": Recipe(_with(terms={"entropic": {}}), "arXiv 2511.15248"),
    "entropic_paper": Recipe(
        _with(advantage="reinforce", shaping="entropic_paper", terms={"kl": {"coefficient": 1e-3}}),
        "github.com/lblaoke/entrocraft",
        "signed",
    ),
    # Clip rules
    "clip_higher": Recipe(_with(clip_options={"high": 0.28}), "arXiv 2503.14476"),
    "dual_clip": Recipe(_with(clip="dual_clip"), "arXiv 1912.09729"),
    "gspo": Recipe(_with(clip="gspo", denominator="sequence"), "arXiv 2507.18071"),
    "adapo": Recipe(_with(filter="dapo_groups", clip="adapo"), "arXiv 2603.11682"),
    "flexible_id": Recipe(_with(clip="flexible_clip", clip_options={"schedule": "ID"}), "arXiv 2602.09782"),
    "flexible_did": Recipe(_with(clip="flexible_clip", clip_options={"schedule": "DID"}), "arXiv 2602.09782"),
    "flexible_od": Recipe(_with(clip="flexible_clip", clip_options={"schedule": "OD"}), "arXiv 2602.09782"),
    # Loss terms
    "entropy_bonus": Recipe(_with(terms={"entropy_bonus": {"coefficient": 0.003}}), "arXiv 2604.26326, Section 4"),
    "aec": Recipe(_with(terms={"aec": {}}), "Skywork-OR1"),
    "aent": Recipe(_with(terms={"aent": {}}), "arXiv 2509.03493"),
    "kl": Recipe(_with(terms={"kl": {"coefficient": 1e-3}}), "arXiv 2402.03300"),
    # Predictive control, ours
    "rejection": Recipe(_with(filter="rejection", denominator="zero"), "ours"),
    "soft": Recipe(_with(filter="soft", denominator="zero"), "ours"),
    "solved_bonus": Recipe(_with(filter="solved_bonus", denominator="zero"), "ours"),
    "rejection_directional": Recipe(
        _with(filter="rejection", filter_options={"influence": "directional"}, denominator="zero"), "ours"
    ),
    "soft_directional": Recipe(
        _with(filter="soft", filter_options={"influence": "directional"}, denominator="zero"), "ours"
    ),
    "soft_tokens": Recipe(
        _with(filter="soft", filter_options={"influence": "directional", "level": "token"}, denominator="zero"), "ours"
    ),
    "solved_bonus_directional": Recipe(
        _with(filter="solved_bonus", filter_options={"influence": "directional"}, denominator="zero"), "ours"
    ),
}


def training_settings(name: str) -> dict[str, Any]:
    """Return a recipe as settings of a training run, such as a YAML file holds them.

    >>> training_settings("released")["reward"]
    {'convention': 'signed'}
    """
    recipe = RECIPES[name]
    algorithm = dict(recipe.settings)
    if recipe.on_policy:
        algorithm |= {"mini_batches": 1, "epochs": 1}
    found: dict[str, Any] = {"algorithm": algorithm}
    if recipe.reward != "as_is":
        found["reward"] = {"convention": recipe.reward}
    return found
