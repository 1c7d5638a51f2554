"""The tables of a study: their files, and what each column means, in order. Figures read them by these names."""

from typing import Any

from trainer.columns import COLUMNS

KEYS = {
    "part": "condition that the run is counted under, and whose band it is held against",
    "arm": "what is compared",
    "seed": "the run's root seed",
}
# Of `metrics.jsonl`, with the meaning that they have there.
CURVES = (
    "entropy",
    "entropy_standard_error",
    "entropy_low",
    "entropy_high",
    "reward_mean",
    "accepted_fraction",
    "effective_group_size",
    "band_indicator",
    "mixed_groups",
    "log_likelihood_positive",
    "log_likelihood_negative",
    "kl",
    "dH_measured",
    "dH_first_order",
    "dH_tabular",
    "sign_rule_agreement",
    "condition_tokens",
    "condition_undefined",
    "condition_log_likelihood",
    "condition_baseline",
    "condition_gap_median",
    "delta_p_agreement",
    "sign_rule_given_condition",
    "sign_rule_without_condition",
    "condition_sequences",
    "sign_rule_sequences_given_condition",
    "sign_rule_sequences_without_condition",
    "effective_delta_p_negative",
    "grad_norm",
    "clip_low_fraction",
    "clip_high_fraction",
    "response_length",
    "skipped",
)
OF_METRICS = {name: f"{COLUMNS[name].description} ({COLUMNS[name].unit or 'no unit'})" for name in CURVES}
RUNS = {
    **KEYS,
    "source": "part that ran it; another one where an arm that does not see the band is reused",
    "settings": "hash of what the protocol says of the run, and of the tables of its steps",
    "git_commit": "that the run was made on; of several with | between them one",
    "parameters": "of the model, tied ones once; empty where no checkpoint holds a whole one",
    "samples": "rollouts drawn",
    "steps": "of the run; what follows is over the steps from `after` on, unless it says",
    "after": "steps left out at the beginning",
    "entropy": "mean, nats/token",
    "spread": "standard deviation over steps, nats/token: of a policy that does not learn, the noise itself",
    "rmse": "root mean square distance of the entropy to the band's centre, nats/token",
    "noise": "root mean square of entropy_standard_error, nats/token: the rmse of a policy exactly at the centre",
    "rmse_over_noise": "rmse / noise",
    "in_band": "share of steps whose entropy is in the band",
    "in_band_possible": "the share that a policy exactly at the centre would show with that noise: the mean of "
    "2 Phi(half width / standard error) - 1",
    "in_band_smooth": "share of steps whose centred moving mean of 5 entropies is in the band",
    "entropy_end": "mean of the last 10 steps, nats/token",
    "accepted_fraction": "mean share of rollouts that the filter accepted",
    "effective_sample_size": "mean of what the filter reports under this name; empty where it does not",
    "reward_end": "mean reward of the last 10 steps",
    "skipped_steps": "steps that updated nothing",
    "r2_first_order": "R^2 of dH_first_order against dH_measured, nothing fitted",
    "r2_tabular": "R^2 of dH_tabular against dH_measured",
    "time_rollout_s": "median seconds a step",
    "time_update_s": "median seconds a step",
    "time_theory_s": "median seconds a step",
    "time_step_s": "median seconds a step, of the three together; other work on the machine included",
    "reaction_up": "steps from the first jump of the band upwards to the first step whose entropy is in it; empty "
    "where it never is before the band jumps again, or where there is no such jump. Over the whole run",
    "reaction_up_available": "steps that there were for it",
    "reaction_down": "the same downwards",
    "reaction_down_available": "steps that there were for it",
}
BINNED = {
    **KEYS,
    "step": "first of as many steps as the protocol's `curve_steps` says, 5 unless it does; the columns are means over "
    "them of",
    **OF_METRICS,
    **{
        f"{name}_{side}": text
        for side in ("above", "below")
        for name, text in (
            ("share", f"share of these steps whose entropy is {side} the band"),
            ("effective_group_size", f"effective_group_size, mean over those of them {side} the band; empty without"),
        )
    },
}
STEPS = {**KEYS, "step": "index of the step, from 0", **OF_METRICS}
EVALUATIONS = {
    **KEYS,
    "step": "steps taken; 0 is the base model",
    "setting": "sampling setting; `set/setting` where held-out sets have names",
    "samples": "completions a prompt",
    "entropy": "nats/token at temperature 1 over these completions",
    "distinct": "distinct right answers a prompt",
    "counts": "right answers of each prompt, separated by spaces",
}
COMPARISON = {
    "part": KEYS["part"],
    "arm": KEYS["arm"],
    "setting": "sampling setting; `training` for the reward of the last 10 steps",
    "quantity": "pass@k at the last step, or the training reward",
    "comparison": "`level`, the arm alone; `same_samples`, the difference to the reference at the same step and seed; "
    "`same_entropy`, to the reference of the same seed where its own entropy was the arm's: held-out entropy, "
    "linearly between its evaluations (the base model is the first), or training entropy between means of 10 steps, of "
    "`curve_steps` where the reference's folder is gone",
    "value": "mean over seeds and prompts",
    "low": "95 % interval over seeds and prompts, resampled for both arms alike; of the reward over seeds alone. The "
    "place of equal entropy is taken as it was found",
    "high": "",
    "seeds": "how many it is of; with two the interval hardly sees the spread over seeds",
    "prompts": "held-out prompts",
    "entropy": "of the arm, mean over seeds, nats/token",
    "reference_value": "the reference's",
    "reference_entropy": "the reference's where it is compared",
    "matched": "`same_entropy` alone: `no` where the reference of some seed never had the arm's entropy, and its "
    "nearest point was taken",
    "seeds_matched": "seeds whose reference had it",
}
# Written where a protocol asks questions.
DECISION = {
    "question": "of the protocol",
    "part": "of the arm that is asked about",
    "arm": "that is asked about",
    "against_part": "of the other one",
    "against": "the other arm",
    "setting": "sampling setting",
    "quantity": "pass@k, or the step of the plateau by the protocol's rule",
    "comparison": "of pass@k: `last`, the mean of the last evaluations less the other's; `best`, less the other's best "
    "ones in a row, chosen on one half of the prompts and measured on the other half, where all of a run's evaluations "
    "have k samples; `end`, at the last step. Of the "
    "plateau: `arm`, `against`, and `factor`, the first over the second, of the seeds that both arms have",
    "value": "mean over seeds and prompts; empty for a plateau that is not reached by the end, and a factor with one",
    "low": "95 % interval over seeds and prompts; empty where it is beyond the run's end; of a factor 0 where that of "
    "the other one is",
    "high": "",
    "seeds_low": "95 % t interval over the seeds' means; empty for one seed",
    "seeds_high": "",
    "margin": "of the protocol, where there is a verdict",
    "verdict": "of pass@1 in the protocol's setting less the other's best: `above` where both intervals lie above the "
    "protocol's margin, `below` where both lie below, `open` otherwise; `incomplete` while runs or evaluations of the "
    "protocol are missing",
    "detectable": "the difference that so many seeds and prompts would find beyond the margin in 80 of 100 studies at "
    "this spread: 1.43 half widths of both intervals together, and the margin where there is a verdict; with two or "
    "three seeds itself uncertain by a factor of two and more",
    "seeds": "seeds that both arms have",
    "prompts": "held-out prompts",
    "samples": "completions a prompt in the arm's evaluations that are compared, the fewest",
    "samples_against": "the same of the other arm's",
}
TABLES = {
    "runs.csv": RUNS,
    "curves.csv": BINNED,
    "steps.csv": STEPS,
    "evaluations.csv": EVALUATIONS,
    "final.csv": EVALUATIONS,
    "comparison.csv": COMPARISON,
}


def cell(value: Any) -> str:
    """Return a value as a table holds it: floats to 6 significant digits, None as nothing.

    >>> cell(0.12345678), cell(None), cell(7), cell("yes"), cell(-0.0)
    ('0.123457', '', '7', 'yes', '0')
    """
    if value is None:
        return ""
    return f"{value + 0.0:.6g}" if isinstance(value, float) else str(value)
