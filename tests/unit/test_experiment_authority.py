"""The map of control authority: base accuracies, ledgers that sum to the slopes, and the classification."""

import pandas as pd
import pytest
import torch

from simulations.exact import tree_of
from simulations.experiments import authority
from simulations.experiments.authority import BRANCHES, CAUSES, EXPERIMENT, Options, effects
from simulations.favouring import Favouring, at_accuracy, right_tokens
from simulations.loop import Simulation
from simulations.networks import Recurrent
from simulations.policies import MLP, Table, Tree
from simulations.problems import Problem, sequences

TINY = Options(
    repeats=2, steps=2, prompts=3, arms=5, correct=1, vocabulary=2, length=2, correct_share=0.3, hidden=4, group_size=4,
    batches=(2,), accuracies=(0.4,), sgd_rates=(0.1, 1.0), adam_rates=(0.01,),
)  # fmt: skip
KEYS = ("sgd_table_0.4_2_once", "sgd_tree_0.4_2_reused_clipped", "adam_mlp_0.4_2_reused_unclipped")


@pytest.fixture(scope="module")
def rows():
    cells = {cell.key: cell for cell in EXPERIMENT.cells(TINY)}
    assert len(cells) == 2 * 3 * 3
    return pd.concat([pd.DataFrame(cells[key].run()) for key in KEYS], ignore_index=True)


def test_right_tokens_are_those_after_which_a_right_answer_can_follow():
    found = right_tokens(Problem(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), 2))  # only 11 is right
    assert found.tolist() == [[[0, 1], [0, 0], [0, 1]]]  # after nothing, after 0, after 1


@pytest.mark.parametrize(
    "policy",
    [Table(3, 8), MLP(torch.eye(3, 2), 8, 4), Tree(3, 2, 3), Recurrent(3, 2, 3, 4)],
    ids=lambda p: type(p).__name__,
)
def test_favouring_reaches_an_accuracy_and_has_its_policys_pullback(policy):
    generator = torch.Generator().manual_seed(0)
    problem = sequences(3, 2, 3, 0.3, generator=generator)
    if policy.length == 1:
        problem = Problem(problem.rewards, 8)
    parameters = policy.start(2, generator=generator)
    for accuracy in (0.1, 0.8):
        favouring = at_accuracy(policy, problem, parameters, accuracy)
        reached = tree_of(favouring, parameters).expected(problem.table(2, problem.rewards)).mean()
        assert reached.item() == pytest.approx(accuracy, abs=1e-9)
    tokens = torch.randint(2, (2, 3, 2, 3), generator=generator) if policy.length > 1 else None
    prompts = torch.tensor([[0, 2, 1], [1, 1, 0]])
    found = favouring.forward(parameters, prompts, tokens)
    torch.testing.assert_close(found.logits, favouring.logits(parameters, prompts, tokens))
    gradient = torch.randn(found.logits.shape, generator=generator)
    want = policy.forward(parameters, prompts, tokens).pullback(gradient)
    torch.testing.assert_close(found.pullback(gradient), want)
    with pytest.raises(ValueError, match="must be between"):
        at_accuracy(policy, Problem(0 * problem.rewards, problem.vocabulary), parameters, 0.5)


def test_an_offset_of_another_prompt_is_not_used():
    offset = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])  # two prompts of a bandit
    policy = Favouring(Table(2, 2, scale=0.0), offset)
    parameters = policy.start(1, generator=torch.Generator())
    assert policy.logits(parameters, torch.tensor([[1, 0]])).tolist() == [[[0, 2], [1, 0]]]


def test_ledgers_sum_to_the_slopes(rows):
    for branch in BRANCHES:
        total = rows[[f"{branch}_{cause}" for cause in CAUSES]].sum(axis=1)
        assert (total - rows[branch]).abs().max() < 1e-12
    assert (rows.grpo != rows.negatives).any()
    assert rows.reward.groupby(rows.policy).mean().sub(0.4).abs().max() < 0.2


def test_effects_by_hand():
    settings = pd.DataFrame(
        [
            # negatives, its error, gain over GRPO, its error
            (0.10, 0.02, 0.50, 0.10),  # above 0 by 5 errors
            (0.01, 0.02, 0.50, 0.10),  # not above 0, but above GRPO
            (-0.30, 0.02, 0.50, 0.10),
            (-0.30, 0.02, 0.10, 0.10),
            (-0.30, 0.02, -0.50, 0.10),
        ],
        columns=["negatives", "negatives_error", "gain", "gain_error"],
    )
    assert effects(settings).tolist() == ["raises", "brakes", "brakes", "no effect", "lowers faster"]


def test_findings_follow_the_rows(rows):
    spread = 1e-4 * rows.repeat
    lowered = rows.assign(grpo=-0.1 - spread, negatives=-0.02 - spread / 2)
    tables = EXPERIMENT.tables(lowered)
    for panel in EXPERIMENT.panels:
        columns = {panel.x, panel.y, panel.by, panel.low, panel.high, panel.value}
        assert columns <= set(tables[panel.table].columns) | {""}
    braked = EXPERIMENT.findings(tables)
    assert braked[0].startswith(
        "The claim does not hold: negatives only raises entropy in 0 of 5 settings, brakes its fall in 5"
    )
    assert sum(line.startswith("Ledger of the surest setting that brakes") for line in braked) == 2  # SGD's and Adam's
    raised = EXPERIMENT.findings(EXPERIMENT.tables(lowered.assign(negatives=0.02 + spread)))
    assert raised[0].startswith("The claim holds: negatives only raises entropy in 5 of 5 settings")
    assert "lowers it in 5" in " ".join(raised)
    mixed = lowered.assign(negatives=lowered.negatives.where(rows.optimizer == "sgd", 0.02 + spread))
    assert EXPERIMENT.findings(EXPERIMENT.tables(mixed))[0].startswith("The claim holds in part: negatives only raises")


def test_the_ledger_names_the_cause_that_was_planted(rows):
    spread = 1e-4 * rows.repeat
    planted = rows.assign(grpo=-0.1 - spread, negatives=0.02 + spread, negatives_selection=3.0, grpo_covariance=-5.0)
    books = [line for line in EXPERIMENT.findings(EXPERIMENT.tables(planted)) if line.startswith("Ledger")]
    assert all("What raises it most is selection, +3.00000" in line for line in books)
    braking = planted.assign(negatives=-0.05 - spread)
    books = [line for line in EXPERIMENT.findings(EXPERIMENT.tables(braking)) if line.startswith("Ledger")]
    assert all("What brakes most is covariance" in line for line in books)


def test_names_of_cells_are_files():
    assert all(
        set(cell.key) <= set("abcdefghijklmnopqrstuvwxyz_.0123456789") for cell in EXPERIMENT.cells(authority.Options())
    )


@pytest.mark.parametrize(("branch", "signs"), [("grpo", {-1, 1}), ("negatives", {-1}), ("positives", {1})])
def test_each_branch_trains_on_its_own_samples(branch, signs):
    setting = authority.built("sgd", "table", 0.4, 3, "once", branch, torch.tensor([0.1]), TINY)
    trace = Simulation(setting, 2, seed=0, trace=True).advance().trace
    used = (trace.filtered.weights * trace.filtered.advantages).sign()
    assert set(used[used != 0].tolist()) == signs
