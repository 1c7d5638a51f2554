"""Every method by name, once. A new method is one file and one row; users name their own as `module:name`."""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, asdict, dataclass, fields, is_dataclass
from typing import Any

from trainer.methods import (
    advantages,
    clip_schedules,
    clips,
    controllers,
    denominators,
    entropy_terms,
    filters,
    losses,
    reweighting,
    schedules,
    shaping,
    token_shaping,
    weights,
)
from trainer.methods.lookup import import_object, instantiate, nearest

STAGES = ("advantage", "shaping", "filter", "token_weight", "clip", "terms", "denominator", "schedule")


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Args:
        name: as configurations write it.
        stage: of `STAGES`.
        object: a function, or a class of hyper-parameters.
        source: paper or code that defines it.
        ours: what the source leaves open and we chose; empty where it leaves nothing open. A row with constants of our
            own says nothing about its authors' method.
    """

    name: str
    stage: str
    object: Any
    source: str
    ours: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Hyper-parameters and their defaults; `...` where there is none."""
        if not isinstance(self.object, type) or not is_dataclass(self.object):
            return {}
        return {item.name: default_of(item) for item in fields(self.object)}

    @property
    def state(self) -> tuple[str, ...]:
        """Names of what the method remembers from step to step."""
        if not isinstance(self.object, type) or not issubclass_of_controller(self.object):
            return ()
        return tuple(build(self.stage, self.name, self.required_options()).start())

    @property
    def summary(self) -> str:
        """The first line of the method's docstring."""
        return (inspect.getdoc(self.object) or "").partition("\n")[0]

    def required_options(self) -> dict[str, Any]:
        """Return an example value for each option without a default."""
        return {name: EXAMPLES[name] for name, default in self.options.items() if default is ...}


def default_of(item: Field[Any]) -> Any:
    """Return a field's default, one made of fields as a mapping; `...` where there is none."""
    if item.default_factory is not NO_DEFAULT:
        made = item.default_factory()
        return asdict(made) if is_dataclass(made) and not isinstance(made, type) else made
    return ... if item.default is NO_DEFAULT else item.default


def issubclass_of_controller(object: type) -> bool:
    """Return whether instances of the class have memory."""
    return all(callable(getattr(object, name, None)) for name in ("start", "decide", "step"))


# Values for options that have no default of their own, for listings and tests.
EXAMPLES: dict[str, Any] = {
    "coefficient": 0.003,
    "target": 0.5,
    "steps": 100,
    "start": (0.6, 0.7),
    "end": (0.4, 0.5),
    "length": 64,
    "beta": 0.01,
    "points": [[0.0, 0.6, 0.7], [1.0, 0.4, 0.5]],
}

GRPO_PAPER = "Shao et al. 2024, arXiv 2402.03300"
ENTROCRAFT = "arXiv 2604.26326"
PREDICTIVE = "all of it: influence, want, gain and their constants"
DR_GRPO = "Dr.GRPO, Liu et al. 2025, arXiv 2503.20783"
RAFT = "Xiong et al. 2025, arXiv 2504.11343"
NSR = "Zhu et al. 2025, arXiv 2506.01347"
ENTROPY_DYNAMICS = "arXiv 2602.03392; github.com/hiyuchang/Trinity-RFT"
COVARIANCE = "Cui et al. 2025, arXiv 2505.22617"
REPO = "Petrenko et al. 2026, arXiv 2603.11682"
FLEXIBLE = "arXiv 2602.09782"
PROBABILITY_BOUNDS = "the slopes and offsets of both ranges"

METHODS: tuple[Method, ...] = (
    # Advantage estimators
    Method("grpo", "advantage", advantages.GRPO, GRPO_PAPER),
    Method("reinforce", "advantage", advantages.reinforce, "Williams 1992"),
    Method("dr_grpo", "advantage", advantages.dr_grpo, DR_GRPO),
    Method("rloo", "advantage", advantages.rloo, "Ahmadian et al. 2024, arXiv 2402.14740"),
    Method("raft", "advantage", advantages.raft, f"RAFT++ with a PPO clip: {RAFT}"),
    Method("reinforce_rej", "advantage", advantages.reinforce_rej, RAFT),
    Method("psr", "advantage", advantages.psr, f"with the filter nonzero: {NSR}"),
    Method("nsr", "advantage", advantages.nsr, f"with the filter nonzero: {NSR}"),
    Method("w_reinforce", "advantage", advantages.WReinforce, NSR),
    Method("asym_grpo", "advantage", advantages.AsymGRPO, "arXiv 2604.04894"),
    # Shaping
    Method(
        "whiten",
        "shaping",
        shaping.Whiten,
        "REINFORCE++ with reinforce, its baseline form with dr_grpo: Hu et al. 2025, arXiv 2501.03262",
        "Bessel's correction, as verl has it and OpenRLHF has not",
    ),
    Method("ucpo", "shaping", shaping.UCPO, "arXiv 2605.00365; github.com/AnamikaLochab/UCPO"),
    Method("aem", "shaping", shaping.AEM, "arXiv 2605.00425", "one response is one span"),
    Method(
        "dcpo",
        "shaping",
        shaping.DCPO,
        "github.com/597358816/AEPO",
        "goes by the entropy of this batch, not of the last update; a batch without a right answer is left as it is",
    ),
    Method(
        "entropic_paper",
        "shaping",
        reweighting.EntroPICPaper,
        "EntroPIC's baseline form in github.com/lblaoke/entrocraft, with reinforce; after arXiv 2511.15248",
    ),
    Method("clip_b", "shaping", token_shaping.ClipB, ENTROPY_DYNAMICS, "masked tokens stay in the denominator"),
    Method("clip_v", "shaping", token_shaping.ClipV, ENTROPY_DYNAMICS, "masked tokens stay in the denominator"),
    Method("opefo", "shaping", token_shaping.OPEFO, "OPEFO", "the entropy change of a token is A (N - S), by E4"),
    Method(
        "positive_reweighting",
        "shaping",
        reweighting.PositiveReweighting,
        "arXiv 2511.05993",
        "the increment 0.01, the first weight 1, the bounds 0 and 1",
    ),
    Method(
        "repo",
        "shaping",
        shaping.REPO,
        "Petrenko et al. 2026, arXiv 2603.11682, constant beta",
        "log-probabilities and entropies of the policy that sampled",
    ),
    # Rollout filters
    Method("none", "filter", filters.keep_all, "the base algorithm"),
    Method("algorithm1", "filter", filters.algorithm1, f"{ENTROCRAFT}, Algorithm 1"),
    Method("released", "filter", filters.released, "github.com/lblaoke/entrocraft"),
    Method(
        "dapo_groups",
        "filter",
        filters.dapo_groups,
        "Yu et al. 2025, arXiv 2503.14476",
        "rejected groups are not resampled: the step has fewer groups",
    ),
    Method("nonzero", "filter", filters.nonzero, f"the rows of PSR and NSR: {NSR}"),
    Method("rejection", "filter", controllers.Rejection, "ours, from E4 or E7", PREDICTIVE),
    Method("soft", "filter", controllers.SoftWeights, "ours, from E4 or E7", PREDICTIVE),
    Method("solved_bonus", "filter", controllers.SolvedBonus, "ours, from E4 and E2, or E7", PREDICTIVE),
    # Token weights
    Method("clip_cov", "token_weight", weights.ClipCov, COVARIANCE, "statistics over the mini-batch"),
    Method("steer", "token_weight", weights.STEER, "arXiv 2510.10150", "statistics over the mini-batch"),
    Method(
        "repo_r",
        "token_weight",
        weights.REPOR,
        f"{REPO}; SkyRL, pull request 1896",
        "zeta stays where the entropy is exactly the target",
    ),
    # Clip rules
    Method("ppo", "clip", clips.PPOClip, "Schulman et al. 2017, arXiv 1707.06347; high=0.28: DAPO, arXiv 2503.14476"),
    Method("unclipped", "clip", clips.unclipped, "the importance-weighted policy gradient"),
    Method("dual_clip", "clip", clips.DualClip, "Ye et al. 2020, arXiv 1912.09729"),
    Method("gspo", "clip", clips.GSPO, "Zheng et al. 2025, arXiv 2507.18071, with the denominator sequence"),
    Method("probability_bounds", "clip", clips.ProbabilityBounds, FLEXIBLE, PROBABILITY_BOUNDS),
    Method("adapo", "clip", clip_schedules.ADAPO, REPO, "the rule by which the upper range moves, and its constants"),
    Method("flexible_clip", "clip", clip_schedules.FlexibleClip, FLEXIBLE, PROBABILITY_BOUNDS),
    # Loss terms
    Method("entropy_bonus", "terms", losses.EntropyBonus, "Williams and Peng 1991"),
    Method("kl", "terms", losses.KLPenalty, "Schulman 2020; arXiv 2402.03300, Equation 4"),
    Method(
        "kl_cov", "terms", losses.KLCov, f"{COVARIANCE}, with the clip rule unclipped", "statistics over the mini-batch"
    ),
    Method(
        "aec",
        "terms",
        entropy_terms.AEC,
        "Skywork-OR1, arXiv 2505.22312",
        "applies by the last finished step's entropy",
    ),
    Method(
        "aent",
        "terms",
        entropy_terms.AEnt,
        "arXiv 2509.03493; constants of its recipes in verl and AReaL",
        "verl's constants with AReaL's controller, which sees the full entropy",
    ),
    Method(
        "entropic",
        "terms",
        entropy_terms.EntroPIC,
        "arXiv 2511.15248; github.com/yk7333/EntroPIC",
        "statistics over the mini-batch; the integral adds the batch's entropy",
    ),
    # Denominators
    Method("drop", "denominator", denominators.drop, f"{ENTROCRAFT}, Algorithm 1"),
    Method("zero", "denominator", denominators.zero, "github.com/lblaoke/entrocraft"),
    Method("sequence", "denominator", denominators.sequence, f"{GRPO_PAPER}, Equation 3; GSPO, arXiv 2507.18071"),
    Method("max_length", "denominator", denominators.MaxLength, DR_GRPO, "rejected rows do not count"),
    # Schedules
    Method("constant", "schedule", schedules.Constant, f"{ENTROCRAFT}, Section 4"),
    Method("linear", "schedule", schedules.Linear, f"{ENTROCRAFT}, Section 4"),
    Method("cosine", "schedule", schedules.Cosine, f"{ENTROCRAFT}, Section 4"),
    Method("square", "schedule", schedules.SquareWave, "ours: a step response"),
    Method("piecewise", "schedule", schedules.Piecewise, "ours: any curve, by its points"),
)

# Methods of the field that are not here, and why.
MISSING: dict[str, str] = {
    "uec_rl": "its step samples hard prompts a second time at a higher temperature and replays stored rollouts, and "
    "the loop has one rollout pass a step and no replay buffer.",
    "policy_split": "it samples every prompt under two system prompts and scores each completion under the other, and "
    "the loop has one prompt a rollout; the values of its coefficients are not published either.",
    "aepo": "its step samples a part of the prompts a second time at another temperature and puts those rollouts in "
    "place of others, with log-probabilities computed anew, and the loop has one rollout pass a step.",
    "sps": "its inverse-RL loss, the lengths of its phases and which rollouts are demonstrations are not known to us.",
    "demystifying": "the estimator of its entropy discrepancy and the schedule that follows it are not known to us.",
    "papo": "the formula and the constants of its polarity weights are not known to us.",
    "repo_d": "its estimator of the step's entropy change, by which beta is scaled, is not known to us; repo (constant "
    "beta) and repo_r (beta in proportion to |A|) are here.",
}


def names(stage: str) -> list[str]:
    """Return the names of a stage's methods."""
    return [method.name for method in METHODS if method.stage == stage]


def find(stage: str, name: str, key: str | None = None) -> Method:
    """Return the row of a stage's method.

    Raises:
        ValueError: an unknown name; the message has the nearest known one, or what is missing of a method that the
            field knows.

    >>> find("advantage", "grpo").source
    'Shao et al. 2024, arXiv 2402.03300'
    """
    for method in METHODS:
        if (method.stage, method.name) == (stage, name):
            return method
    key = key or f"algorithm.{stage}"
    if name in MISSING:
        raise ValueError(f"{key}={name!r} is not implemented: {MISSING[name]}")
    elsewhere = [method.stage for method in METHODS if method.name == name]
    hint = f"It is a method of the stage {elsewhere[0]}. " if elsewhere else nearest(name, names(stage))
    raise ValueError(
        f"{key}={name!r} must be one of {sorted(names(stage))} or module:name of your own; got neither. "
        f"{hint}`entrocraft methods` lists all."
    )


def build(stage: str, name: str, options: Mapping[str, Any] | None = None, key: str | None = None) -> Any:
    """Return the method called `name`, built with its options where it is a class.

    Args:
        stage: of `STAGES`.
        name: a row of the table, or `module:name` for a method of the user's own.
        options: hyper-parameters for the method's class.
        key: the config key the name came from, for messages; by default `algorithm.` and the stage.

    Raises:
        ValueError: an unknown name, an unknown or absent option, or options for a method without hyper-parameters.
        ImportError: a `module:name` that cannot be imported.

    >>> build("advantage", "grpo", {"eps": 0.0})
    GRPO(eps=0.0)
    """
    key = key or f"algorithm.{stage}"
    return instantiate(key, name, named(stage, name, key), options or {})


def named(stage: str, name: str, key: str) -> Any:
    """Return the function or class that a configuration names: a row's, or the user's own.

    Raises:
        ValueError: an unknown name.
        ImportError: a `module:name` that cannot be imported.
    """
    return import_object(key, name) if ":" in name else find(stage, name, key).object
