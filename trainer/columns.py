"""The columns of `metrics.jsonl`: name, unit and meaning, in one place. Figures and users read rows by these names."""

from typing import NamedTuple


class Column(NamedTuple):
    """A column's unit and description."""

    unit: str
    description: str


NATS = "nats/token"

COLUMNS: dict[str, Column] = {
    "step": Column(
        "", "index of the step, from 0; all values are of the policy before this step's update unless they say"
    ),
    "samples": Column("rollouts", "rollouts drawn so far, this step included"),
    "tokens": Column("tokens", "completion tokens drawn so far, this step included"),
    "wall_s": Column("s", "time since the run began or was resumed"),
    "reward_mean": Column("reward", "mean reward as the reward function gave it, before `reward.convention`"),
    "entropy": Column(NATS, "mean over all completion tokens, rejected ones too, of softmax(logits / temperature)"),
    "entropy_t1": Column(NATS, "the same at temperature 1"),
    "entropy_standard_error": Column(
        NATS,
        "standard error of `entropy` over draws of prompts and completions: the noise of the curve; null for one "
        "prompt",
    ),
    "log_likelihood_positive": Column(
        NATS, "mean log-probability of the tokens of rollouts with a positive advantage, as sampled; null without one"
    ),
    "log_likelihood_negative": Column(NATS, "the same with a negative advantage"),
    "entropy_low": Column(NATS, "lower bound of the band"),
    "entropy_high": Column(NATS, "upper bound of the band"),
    "band_indicator": Column("", "m: 1 above the band, -1 below, 0 inside"),
    "accepted_fraction": Column("share", "rollouts that the filter accepted"),
    "effective_group_size": Column("rollouts", "accepted rollouts a prompt"),
    "mixed_groups": Column("share", "prompts whose rewards are not all equal"),
    "response_length": Column("tokens", "mean completion tokens, the end token included"),
    "finished_fraction": Column("share", "completions that ended with a stop token"),
    "rows_computed": Column("rollouts", "rows that the update computed, over all epochs; the others carry no gradient"),
    "skipped": Column("", "1 where no mini-batch had a row with gradient, so that nothing was updated"),
    "skipped_mini_batches": Column("", "mini-batches without a row with gradient: no optimiser step was taken"),
    "bad_mini_batches": Column("", "mini-batches whose loss or gradient was not finite: no optimiser step was taken"),
    "loss": Column("", "mean over the optimiser steps taken"),
    "grad_norm": Column("", "mean over the optimiser steps taken, before clipping"),
    "lr": Column("", "learning rate"),
    "kl": Column(NATS, "mean k3 against the initial policy over computed tokens; null without a KL term"),
    "clip_low_fraction": Column("share", "computed tokens whose gradient the lower clip bound removed"),
    "clip_high_fraction": Column("share", "computed tokens whose gradient the upper clip bound removed"),
    "ratio_max": Column("", "largest importance ratio over computed tokens"),
    "log_prob_gap": Column("nats", "largest difference of sampler and trainer log-probability in the first mini-batch"),
    "log_prob_gap_mean": Column("nats", "mean size of that difference over the same tokens"),
    "dH_measured": Column(NATS, "entropy after less before this update, on the probe: the same contexts"),
    "dH_first_order": Column(NATS, "<gradient of H, parameter step> on the probe: E7 with the step actually taken"),
    "dH_second_order": Column(NATS, "1/2 step' Hessian step on the probe; null unless `theory.second_order`"),
    "dH_tabular": Column(NATS, "dH_tabular_unit times dH_tabular_scale"),
    "dH_tabular_unit": Column(NATS, "E4 sum over trained tokens / the loss's denominator, at step size 1"),
    "dH_tabular_scale": Column("", "factor fitted online on earlier steps; null at the first"),
    "dH_covariance": Column(NATS, "part of dH_tabular from the batch covariance of advantage and influence"),
    "dH_drift": Column(NATS, "tabular second-order term of the sampled tokens, times dH_tabular_scale squared"),
    "sign_rule_agreement": Column("share", "probe tokens with advantage where A times measured change <= 0"),
    "sign_rule_step": Column(
        "", "1 if the mean advantage over rollouts times dH_measured <= 0, 0 if not; null if the mean is 0"
    ),
    "condition_tokens": Column(
        "share",
        "probe tokens for which Theorem 1's condition holds, log p_k > b_k with b_k from the measured change of all "
        "probabilities; of those with advantage that moved: log-odds by more than 1e-4. All columns from here on to "
        "`effective_delta_p_negative` are null unless `theory.condition`",
    ),
    "condition_undefined": Column("share", "probe tokens with advantage that did not move: the condition is 0/0 there"),
    "condition_log_likelihood": Column(NATS, "mean log p_k of those that moved"),
    "condition_baseline": Column(NATS, "mean b_k of those; heavy-tailed, a token that hardly moved can carry it"),
    "condition_gap_median": Column("nats", "median log p_k - b_k of those"),
    "delta_p_agreement": Column("share", "those whose probability moved as their advantage says: A delta p_k > 0"),
    "sign_rule_given_condition": Column("share", "A times measured change <= 0 among those for which it holds"),
    "sign_rule_without_condition": Column("share", "the same among those for which it does not hold"),
    "condition_sequences": Column(
        "share",
        "probe rollouts for which Theorem 2's condition holds, sum log p_k >= sum b_k over their tokens that moved",
    ),
    "sign_rule_sequences_given_condition": Column(
        "share", "A times measured change, summed over the rollout, <= 0 among those"
    ),
    "sign_rule_sequences_without_condition": Column("share", "the same among the others"),
    "effective_delta_p_negative": Column(
        "share",
        "probe rollouts whose effective delta p_y does not have the sign of A, so that Theorem 2's conclusion does not "
        "follow from its condition",
    ),
    "info": Column("", "what the filter and the controller report of themselves, numbers by name"),
    "time_rollout_s": Column("s", "sampling and scoring, without what theory records on the way"),
    "time_update_s": Column("s", "forward, backward and optimiser"),
    "time_theory_s": Column("s", "the probe, and what is recorded for theory while sampling"),
}
