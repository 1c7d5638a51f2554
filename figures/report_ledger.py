"""The entropy ledger of a training run: what a step's change of the training curve is made of, from its metrics.

With H_t the batch entropy of step t, all in nats per token, for every step that another follows:

    curve          H_{t+1} - H_t
    measured       change on the probe's contexts, the same before and after the update (`dH_measured`)
    tabular        the per-token formula: covariance of advantage and influence, and the noise of the samples drawn, as
                   one term, with a scale learnt on earlier steps (`dH_tabular`)
    network        first order less tabular: shared parameters, the optimiser, loss terms, clipping and reuse, and what
                   the learnt scale is off by
    first_order    the first order as one, in steps without a tabular term (the first one has no scale yet)
    second_order   curvature along the step, where `theory.second_order` had it computed
    unexplained    measured less all of these: higher orders, and the second where it was not computed
    context_shift  curve less measured: new prompts and tokens, and the probe being a part of the batch
    not_probed     curve, in steps without a probe

`curve` is the sum of `CAUSES`, `SHIFT` and nothing else.
"""

import pandas as pd

from figures.report_load import ReportedRun

CAUSES = {
    "tabular": "covariance and sampling noise (tabular)",
    "network": "shared parameters, optimiser, off-policy",
    "first_order": "first order, not split",
    "second_order": "second order",
    "unexplained": "unexplained",
}
SHIFT = {"context_shift": "context shift", "not_probed": "steps without a probe"}
TOTALS = {"measured": "measured, fixed contexts", "curve": "training curve"}
MOST_WINDOWS = 12


def ledger(run: ReportedRun) -> pd.DataFrame:
    """Return `step` and every entry above, one row a step that another follows; what was not recorded is 0."""
    after = run.of("entropy").shift(-1).where(run.metrics.step.shift(-1) == run.metrics.step + 1)
    curve = after - run.of("entropy")
    measured = run.of("dH_measured")
    first = run.of("dH_first_order").where(measured.notna())
    tabular = run.of("dH_tabular").where(first.notna())
    entries = {
        "tabular": tabular.fillna(0.0),
        "network": (first - tabular).fillna(0.0),
        "first_order": first.where(tabular.isna()).fillna(0.0),
        "second_order": run.of("dH_second_order").where(measured.notna()).fillna(0.0),
    }
    entries["unexplained"] = (measured - sum(entries.values())).fillna(0.0)
    entries |= {
        "context_shift": (curve - measured).fillna(0.0),
        "not_probed": curve.where(measured.isna()).fillna(0.0),
        "measured": measured.fillna(0.0),
        "curve": curve,
    }
    return pd.DataFrame({"step": run.metrics.step, **entries})[curve.notna()].reset_index(drop=True)


def windows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the ledger's sums over at most 12 windows of equally many steps, from `step` to `last`.

    The length of a window is 1, 2 or 5 times a power of ten.
    """
    if rows.empty:
        return rows.assign(last=rows.step)
    length = window_length(int(rows.step.max() - rows.step.min()) + 1)
    window = (rows.step - rows.step.min()) // length
    sums = rows.drop(columns="step").groupby(window).sum()
    steps = rows.step.groupby(window)
    return pd.concat([steps.min().rename("step"), steps.max().rename("last"), sums], axis=1).reset_index(drop=True)


def window_length(steps: int) -> int:
    """Return the length of a window, so that `steps` steps need at most 12.

    >>> [window_length(steps) for steps in (1, 12, 13, 40, 240, 1000)]
    [1, 1, 2, 5, 20, 100]
    """
    for power in range(12):
        for digit in (1, 2, 5):
            if steps <= MOST_WINDOWS * digit * 10**power:
                return digit * 10**power
    return steps


def present(rows: pd.DataFrame, names: dict[str, str]) -> dict[str, str]:
    """Return the entries that are not 0 throughout, and `unexplained` whatever it is."""
    return {name: text for name, text in names.items() if name == "unexplained" or (rows[name] != 0).any()}
