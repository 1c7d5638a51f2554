"""Every command and every example of the README is one that works."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from figures.curves import PERCENT
from figures.estimates import accuracy_at, counts_of, estimate, held_out, pass_at_k
from figures.ledger.training import LONG, comparison, progress, roughness, run
from figures.own import saturation, table_condition, table_control, table_decision
from figures.study import Data
from trainer.estimators import bootstrap_pairs
from trainer.parsing import as_yaml, load_config
from trainer.study.decision import DETECTABLE, History, best, last, verdict

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
README_COLUMNS = [
    *("seeds", "constant: RMSE / noise", "in band, 5-step mean (%)", "line: in band, 5-step mean (%)"),
    *("square: steps up", "steps down"),
    *("constant: pass@1 less GRPO's, same entropy", "constant: pass@32 less GRPO's, same entropy"),
]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = [
    shlex.split(line, comments=True)
    for block in blocks("bash")
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("entrocraft ")
]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder in which the files that the README's commands read exist."""
    monkeypatch.chdir(tmp_path)
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/config.yaml").write_text(as_yaml(load_config("--config", "quickstart")))
    Path("prompts.jsonl").write_text('{"prompt": "1 + 1 =", "answer": "2"}\n')


def test_there_are_commands_to_check():
    assert {command[1] for command in COMMANDS} >= {"train", "evaluate", "figures", "pretrain", "--help"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_is_understood(command, workspace, understood):
    understood(command[1:])


def test_make_targets_exist():
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("bash")), flags=re.MULTILINE)
    assert targets == ["quickstart", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in targets)


def test_theory_example_runs():
    (example,) = [block for block in blocks("python") if "theory.every_token(" in block]
    exec(example, {"logits": torch.randn(3, 5), "token": torch.tensor([0, 4, 2]), "rewards": torch.rand(3, 5)})


def test_network_example_runs():
    (example,) = [block for block in blocks("python") if "theory.directional_change(" in block]
    model = torch.nn.Linear(3, 4)
    step = {name: 0.1 * torch.ones_like(value) for name, value in model.named_parameters()}
    exec(example, {"model": model, "contexts": torch.randn(5, 3), "step": step})


def test_control_example_runs():
    (example,) = [block for block in blocks("python") if "stages.as_controller(" in block]
    scope = {"rewards": torch.eye(3), "advantages": torch.eye(3) - 1 / 3, "entropy": 0.2}
    exec(example, scope)
    assert scope["decision"].weights.tolist() == (1 - torch.eye(3)).tolist()


def test_training_example_defines_a_reward():
    (example,) = [block for block in blocks("python") if "entrocraft.train(" in block]
    scope = {}
    exec(example.split("entrocraft.train(")[0], scope)
    assert scope["reward"](["p", "p"], ["so 2", "so 3"], [[0], [0]], answer=["2", "2"]) == [1.0, 0.0]


def test_files_that_the_readme_names_exist():
    tree = re.search(r"```\n(trainer/train.py.*?)```", README, flags=re.DOTALL).group(1)
    names = re.findall(r"[\w/]+\.py|\w+/", tree)
    found = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    for name in names:
        if name.endswith(".py"):
            assert any(path == name or path.endswith("/" + name) for path in found), name
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link.partition("#")[0]).exists(), link


def test_the_table_of_controllers_is_that_of_the_study():
    found = table_control.summarise(Data().study)
    rows = README.split("| arm | seeds |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) > 5
    for row in rows:
        name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        assert cells == found.loc[name, README_COLUMNS].tolist(), name


def test_what_the_long_study_answered_is_what_its_table_says():
    said = " ".join(README.split())
    found, _ = table_decision.summarise(Data().long)
    shown = found[found.verdict.isin(["above", "below", "open"]) & (found.seeds != "1")]
    columns = ["seeds", "last three less best three (points)", "t over seeds", "verdict", "pass@256 at the end"]
    rows = README.split("| last three less best three |")[1].split("\n\n")[0].splitlines()[2:]
    cells = {name: values for name, *values in ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)}
    assert cells == {name: row.tolist() for name, row in shown[columns].iterrows()}
    answer, method = found.loc["solved bonus less GRPO"], found.loc["Algorithm 1 less GRPO"]
    assert f"own question: **{answer.verdict}**" in said
    asked = Data().long.decision.query("question == 'pays' and verdict == 'open'").iloc[0]
    half = PERCENT * (asked.margin + (asked.detectable - asked.margin) / DETECTABLE)
    seen = answer["could be seen"].removeprefix("+")
    assert f"one of {half:.1f} would have been found in half of such studies, one of {seen} in four of five" in said
    own = [PERCENT * of for of in itself("linear", "grpo", "paper")]
    assert f"GRPO's last three less its own best three are {np.mean(own):+.1f} points" in said
    soft = found.loc["soft weights less GRPO"]
    for name, row in (("the solved bonus has its", answer), ("soft weights", soft), ("Algorithm 1", method)):
        assert f"{name} at {row['its plateau (step)']}," in said
    unseen = method["the other's"].removeprefix("not seen ")
    assert f"GRPO has none up to step 2800, the last that can be judged {unseen}" in said
    assert f"factor to GRPO ends at {method.factor.removeprefix('not seen [0.00, ').removesuffix(']')}" in said
    rows = Data().long.comparison.set_index(["part", "arm", "setting", "quantity", "comparison"])
    early = rows.loc["linear", "solved_bonus", "paper", "pass@1", "same_entropy"]
    assert f"{PERCENT * early.value:.1f} [{PERCENT * early.low:.1f}, {PERCENT * early.high:.1f}] points lower" in said
    for part, words in (
        ("twice", "under GRPO {:.1f} % [{:.1f}, {:.1f}] at"),
        ("linear", "has {:.1f} [{:.1f}, {:.1f}]"),
        ("eight_times", "have {:.1f} [{:.1f}, {:.1f}]"),
    ):
        level = PERCENT * rows.loc[part, "grpo", "paper", "pass@1", "level"][["value", "low", "high"]].astype(float)
        assert words.format(*level) in said
    of = found.loc["solved bonus less GRPO (eight times)", "the other's"]
    assert f"GRPO's plateau is seen, at {of}." in said
    both = found.loc["solved bonus less GRPO (both eight times)"]
    assert f"Under control it is at {both['its plateau (step)']}, a factor of {both.factor}: no delay" in said
    level = PERCENT * rows.loc["eight_times", "solved_bonus", "paper", "pass@1", "level"][["value", "low", "high"]]
    runs = Data().long.runs.query("part == 'eight_times'").groupby("arm").entropy_end
    ends = [f"{of:.2f}" for arm in ("solved_bonus", "grpo") for of in (runs.min()[arm], runs.max()[arm])]
    assert "ends at {:.1f} [{:.1f}, {:.1f}] with {} to {} nats, GRPO with {} to {}.".format(*level, *ends) in said
    level = PERCENT * rows.loc["on_policy", "grpo", "paper", "pass@1", "level"][["value", "low", "high"]].astype(float)
    assert "ends at {:.1f} % [{:.1f}, {:.1f}]. The solved".format(*level) in said
    entropy = Data().long.runs.query("arm == 'grpo' and part == source").groupby("part").entropy
    one, four = (
        {f"{of.get_group(part).agg(end):.2f}" for end in ("min", "max")}
        for of, part in ((entropy, "on_policy"), (entropy, "linear"))
    )
    assert (
        f"entropy is {' to '.join(sorted(one))} nats over the run where it is {' to '.join(sorted(four))} with four"
        in said
    )
    level = PERCENT * rows.loc["linear", "grpo_half_rate", "paper", "pass@1", "level"][["value", "low", "high"]]
    left = Data().long.runs.query("arm == 'grpo_half_rate'").entropy_end
    assert "{:.1f} % [{:.1f}, {:.1f}] at the end with".format(*level) in said
    assert f"{left.min():.2f} to {left.max():.2f} nats, not seen to differ from GRPO at the whole rate." in said
    assert found.loc["GRPO, half the rate less GRPO"].verdict == "open"
    many = Data().long.decision.query("question == 'half_rate_pays' and setting == 't1' and quantity == 'pass@256'")
    ends = PERCENT * many[["value", "low", "high", "seeds_low", "seeds_high"]].iloc[0].astype(float)
    assert ends.seeds_low < 0 < ends.seeds_high, "the t interval holds 0"
    assert "its pass@256 is {:+.1f} [{:.1f}, {:.1f}], t over seeds [{:.1f}, {:.1f}]".format(*ends) in said
    at_one = Data().long.decision.query("setting == 't1'").set_index(["question", "quantity", "comparison"])
    factor = at_one.loc[("eight_times_pays", "plateau", "factor")]
    assert at_one.isna().value[("eight_times_pays", "plateau", "against")], "GRPO's is not seen"
    assert f"the factor's interval is [{factor.low:.0f}, {factor.high:.2f}]." in said
    ends = (
        PERCENT * at_one.loc[("rejection_pays", "pass@256", "end"), ["value", "low", "high", "seeds_low", "seeds_high"]]
    )
    assert "ends {:+.1f} [{:.1f}, {:.1f}] points from GRPO's, t [{:.1f}, {:+.1f}].".format(*ends) in said
    start = Data().long.evaluations.query("part == 'eight_times' and setting == 't1' and step == 0")
    right = [PERCENT * estimate(same, 1).value for _, same in start.groupby(["arm", "seed"])]
    assert {f"{entropy:.2f}" for entropy in start.entropy} == {"0.67"}
    assert f"0.67 nats and {min(right):.1f} to {max(right):.1f} % at temperature 1, both" in said
    held = Data().long.evaluations.query("arm == 'grpo' and setting == 'paper' and step == 600")
    large, small = (PERCENT * estimate(held[held.part == part], 1).value for part in ("eight_times", "linear"))
    assert f"at {large:.1f} after 600 steps, where the small model is at {small:.1f}" in said
    one = (
        Data().long.decision.query("quantity == 'pass@1' and comparison == 'best' and seeds > 1").set_index("question")
    )
    decided = one[(one.setting == "paper") & one.verdict.isin(["above", "below", "open"])].verdict
    assert len(decided) == len(shown)
    assert "temperature 1 says the same of each" in said
    for question, row in one[one.setting == "t1"].loc[decided.index].iterrows():
        ends = min(row.low, row.seeds_low), max(row.high, row.seeds_high)
        assert verdict(*ends, 0.01) == decided[question], question


def test_what_the_long_study_says_of_first_order_is_what_its_tables_say():
    said, long = " ".join(README.split()), Data().long

    def of(values):
        return f"{min(values):.2f} to {max(values):.2f}"

    runs = {key: rows.r2_first_order for key, rows in long.runs.groupby(["part", "arm"])}
    small, twice, large = (of(runs[part, "grpo"]) for part in ("linear", "twice", "eight_times"))
    assert f"GRPO {small} (0.2 M), {twice} (0.4 M), {large} (1.6 M)" in said
    pair = [of(runs[part, "solved_bonus"]) for part in ("linear", "eight_times")]
    assert f"solved bonus {' and '.join(pair)}." in said
    single = [of(runs["on_policy", arm]) for arm in ("grpo", "solved_bonus")]
    assert single[1] == "0.99 to 0.99"
    half, many = of(runs["linear", "grpo_half_rate"]), of(runs["off_policy", "grpo"])
    assert f"explains more: GRPO {single[0]}, solved bonus 0.99, with sixteen less (GRPO {many}); at half" in said
    assert f"at half the rate GRPO {half}." in said
    together, slopes = {}, {}
    # GRPO's change is measured on the steps with a prediction alone, one in each row of the curves.
    probed = long.curves.query("arm == 'grpo' and step >= 200").dropna(subset=["dH_measured", "dH_first_order"])
    for part, rows in probed.groupby("part"):
        seeds = [same[["dH_first_order", "dH_measured"]].to_numpy().T for _, same in rows.groupby("seed")]
        together[part] = of([np.corrcoef(*same)[0, 1] for same in seeds])
        slopes[part] = [predicted @ measured / (predicted @ predicted) for predicted, measured in seeds]
    correlations = ", ".join(together[part] for part in ("linear", "twice", "eight_times"))
    assert f"(GRPO's correlations: {correlations})" in said
    assert [round(1 / slope) for slope in sorted(slopes["eight_times"])] == [4, 3], "a quarter to a third"


def test_what_the_long_study_says_of_a_fixed_target_is_what_its_tables_say():
    said, fixed = " ".join(README.split()), {"part": "constant", "arm": "solved_bonus"}
    line, plain = {**fixed, "part": "linear"}, {"part": "linear", "arm": "grpo"}

    def varies(of, column, start):
        return f"{roughness(Data(), **of, column=column, start=start, end=start + 800).value:.3f}"

    early, late = (varies(fixed, "entropy", start) for start in (0, 3200))
    assert f"it varies by {early} nats over the first 800 steps and by {late} over the last" in said
    assert f"on the line it is {varies(line, 'entropy', 1600)} in the middle" in said
    assert f"GRPO's ({varies(fixed, 'reward_mean', 3200)} and {varies(plain, 'reward_mean', 3200)})" in said
    for part in ("constant", "too_high"):
        rise = progress(Data(), part=part, arm="solved_bonus", setting="paper", start=800, end=4000)
        assert rise.low > 0
        assert f"pass@1 rises by {PERCENT * rise.value:.1f} points after step 800" in said
    high = {**fixed, "part": "too_high"}
    early, late = (varies(high, "entropy", start) for start in (0, 3200))
    assert f"varies by {early} nats over the first 800 steps and by {late} over the last" in said
    assert f"by {run(Data(), **high, column='rmse', study=LONG).value:.2f} nats RMSE" in said
    soft = {"part": "too_high", "arm": "soft"}
    assert f"the target ({run(Data(), **soft, column='rmse', study=LONG).value:.2f} nats) at a price" in said
    rows = Data().long.evaluations.query("part == 'too_high' and arm == 'soft' and setting == 'paper'")
    right = [PERCENT * pd.Series(accuracy_at(seed)) for _, seed in rows.sort_values("step").groupby("seed")]
    early = [of.loc[200] for of in right]
    assert f"falls to {min(early):.1f} to {max(early):.1f} % within 200 steps" in said
    assert all(of.loc[200] < of.loc[2000] < of.loc[4000] for of in right), "climbs again"
    assert f"two seeds, which differ by {np.ptp([of.loc[4000] for of in right]):.1f} points" in said
    end = comparison(Data(), **soft, setting="paper", quantity="pass@1", comparison="same_samples", study=LONG)
    assert f"is {-PERCENT * end.value:.1f} points [{-PERCENT * end.high:.1f}, {-PERCENT * end.low:.1f}] below" in said


def test_what_the_long_study_says_of_entropy_is_what_its_tables_say():
    said, long = " ".join(README.split()), Data().long
    runs, curves = (rows[rows.part == "linear"] for rows in (long.runs, long.curves))
    fixed, ends = (
        rows[rows.arm == arm].groupby("seed")[column].mean()
        for rows, arm, column in (
            (curves[curves.step >= 3800], "bonus_0.01", "entropy"),
            (runs, "solved_bonus", "entropy_end"),
        )
    )
    least = curves[curves.arm == "bonus_0.01"].groupby("seed").entropy.min()
    assert f"falls to {least.min():.2f} to {least.max():.2f} nats by seed" in said
    assert f"rises again, to {fixed.min():.2f} to {fixed.max():.2f} by the end" in said
    last = long.last[(long.last.part == "linear") & (long.last.setting == "paper")]
    right = [estimate(same, 1).value for _, same in last[last.arm == "bonus_0.01"].groupby("seed")]
    entropy = runs[runs.arm == "bonus_0.01"].set_index("seed").entropy.sort_index()
    assert entropy.rank().tolist() == (-pd.Series(right)).rank().tolist()
    reached = last[last.arm == "solved_bonus"].set_index("seed").entropy
    plain = long.evaluations[(long.evaluations.part == "linear") & (long.evaluations.arm == "grpo")]
    shares = [
        PERCENT * np.interp(-reached[seed], -same.entropy, same.step) / same.step.max()
        for seed, same in plain[plain.setting == "paper"].sort_values("step").groupby("seed")
    ]
    assert f"after {min(shares):.0f} to {max(shares):.0f} % of the steps" in said
    assert f"ends at {ends.min():.2f} to {ends.max():.2f} nats." in said
    after = curves[curves.step >= 200]
    above = after[after.arm == "solved_bonus"].groupby("seed").share_above.mean()
    assert f"on {PERCENT * above.min():.0f} to {PERCENT * above.max():.0f} % of the steps after 200" in said
    soft = runs[runs.arm == "soft"]
    share, noise = PERCENT * soft.in_band_smooth, soft.rmse_over_noise
    assert f"on {share.min():.0f} to {share.max():.0f} % of the smoothed steps" in said
    assert f"at {noise.min():.2f} to {noise.max():.2f} times the noise" in said
    predicted = runs[runs.arm == "rejection"]
    share, noise = PERCENT * predicted.in_band_smooth, predicted.rmse_over_noise
    assert f"on {share.min():.0f} to {share.max():.0f} % of the smoothed steps at {noise.min():.2f} to" in said
    kept = {f"{PERCENT * accepted:.0f}" for accepted in predicted.accepted_fraction}
    assert f"{noise.max():.2f} times the noise; it keeps {kept.pop()} % of the rollouts" in said
    assert not kept
    released = runs[runs.arm == "released"]
    share, noise = PERCENT * released.in_band_smooth, released.rmse_over_noise
    assert f"RMSE {noise.min():.2f} to {noise.max():.2f} times the noise" in said
    assert f"in the band on {share.min():.0f} to {share.max():.0f} % of the smoothed steps" in said
    off = runs.groupby("arm").rmse_over_noise.mean()
    times = ("five", "six", "seven", "eight")[round(off["algorithm1"] / off["released"]) - 5]
    assert f"comes {times} times nearer the line" in said
    below = after[(after.arm == "released") & (after.step < 2800)].groupby("seed").share_below.mean()
    assert f"below its band on {PERCENT * below.min():.0f} to {PERCENT * below.max():.0f} % of the steps" in said
    inside = after[(after.arm == "algorithm1") & (after.share_above + after.share_below < 1)]
    assert f"outside until step {inside.step.min()}" in said
    middle = curves[(curves.step >= 1000) & (curves.step <= 3000)].groupby("arm").entropy.mean()
    assert f"the solved bonus has {middle['solved_bonus']:.2f} nats and GRPO {middle['grpo']:.2f}" in said
    condition = after.groupby("arm").condition_tokens.mean()[["grpo", "solved_bonus", "bonus_0.01", "algorithm1"]]
    assert f"on {PERCENT * condition.min():.0f} to {PERCENT * condition.max():.0f} % of real tokens" in said
    ranks, _ = table_condition.summarise(long)
    ranks = ranks[ranks.index.str.contains("condition holds")].filter(like="regressed out")
    cells = [tuple(map(float, re.findall(r"[-+][\d.]+", cell))) for cell in ranks.to_numpy().flat]
    cells = [cell for cell in cells if len(cell) == 3]  # of a single run there is no interval
    outside = sum(low > 0 or high < 0 for _, low, high in cells)
    assert f"is above {max(abs(value) for value, *_ in cells):.2f} in any arm" in said
    many = [abs(float(re.findall(r"[-+][\d.]+", cell)[0])) for cell in ranks.to_numpy().flat if runs_of(cell) >= 5]
    assert f"or above {max(many):.2f} in those of five runs and more" in said
    assert f"{outside} of {len(cells)} intervals leave out 0; of GRPO's, those with entropy" in said
    grpo = ranks[ranks.index.str.startswith("GRPO:")]
    assert [sum("[+" in cell for cell in grpo[column]) for column in grpo] == [2, 0]


def runs_of(cell):
    """The runs that a cell is over, in brackets at its end."""
    return int(cell.rpartition("(")[2].removesuffix(")"))


def test_what_the_long_study_says_of_a_more_accurate_base_is_what_its_tables_say():
    said, long = " ".join(README.split()), Data().long
    rows = long.evaluations[long.evaluations.part == "accurate"]
    start = rows[(rows.step == 0) & (rows.setting == "paper")]
    assert {f"{entropy:.2f}" for entropy in start.entropy} == {"0.51"}
    assert f"pass@1 {PERCENT * estimate(start, 1).value:.1f} % and 0.51 nats before training" in said
    runs = long.runs[long.runs.part == "accurate"]
    held = runs[runs.arm == "solved_bonus"]
    share, noise = PERCENT * held.in_band_smooth, held.rmse_over_noise
    (times,) = {f"{of:.2f}" for of in noise}
    assert f"on {share.min():.0f} to {share.max():.0f} % of the smoothed steps, at {times} times" in said
    found, _ = table_decision.summarise(long)
    row = found.loc["solved bonus less GRPO (both accurate)"]
    other = row["the other's"]
    assert f"saturate, at {other}, and" in said
    assert f"It is flat at {row['its plateau (step)']}, a factor of {row.factor}." in said
    asked = long.decision[(long.decision.quantity == "plateau") & (long.decision.setting == "t1")]
    own = asked[asked.question == "accurate_pays"].set_index("comparison")
    assert f"not seen to be flat [{own.low['arm']:.0f}, -]" in said
    other = own.loc["against"]
    assert f"GRPO is at {other.value:.0f} [{other.low:.0f}, {other.high:.0f}]: " in said
    assert f"the factor's interval begins at {own.low['factor']:.2f}, alone of all" in said
    factors = long.decision[(long.decision.comparison == "factor") & (long.decision.low > 1)]
    assert factors[["question", "setting"]].to_numpy().tolist() == [["accurate_pays", "t1"]]
    levels = long.comparison.query("part == 'accurate' and setting == 'paper' and quantity == 'pass@1'")
    levels = levels[levels.comparison == "level"].set_index("arm")[["value", "low", "high"]] * PERCENT
    assert (
        "ends at {:.1f} % [{:.1f}, {:.1f}], GRPO at {:.1f} [{:.1f}, {:.1f}].".format(
            *levels.loc["solved_bonus"], *levels.loc["grpo"]
        )
        in said
    )
    answers = long.decision[(long.decision.against == "grpo") & (long.decision.seeds > 1)]
    answers = answers[answers.quantity.str.startswith("pass@")]
    columns = ["value", "low", "high", "seeds_low", "seeds_high"]
    many = answers[(answers.quantity == "pass@256") & (answers.question == "accurate_pays")].set_index("setting")
    late = "+{:.1f} [{:+.1f}, {:+.1f}] points above GRPO's, t [{:+.1f}, {:+.1f}]"
    assert f"pass@256 at temperature 1 ends {late.format(*(PERCENT * many.loc['t1', columns]))}" in said
    above = answers[(answers.low > 0) & (answers.seeds_low > 0)]
    assert above[["question", "setting", "quantity"]].to_numpy().tolist() == [["accurate_pays", "t1", "pass@256"]]
    below = answers[(answers.high < 0) & (answers.seeds_high < 0) & ~answers.arm.isin(["algorithm1", "released"])]
    below = below[below.question != "off_policy_pays"]
    end, early = (below[below.comparison == name] for name in ("end", "best"))
    assert end[["setting", "quantity"]].to_numpy().tolist() == [["t1", "pass@32"], ["t1", "pass@16"]]
    high, higher = ("{:+.1f} [{:+.1f}, {:+.1f}]".format(*row) for row in PERCENT * end[columns[:3]].to_numpy())
    assert f"(pass@16 at 1.2 nats {higher}, pass@32 at 1.0 nats {high})" in said
    assert set(early.quantity) == {"pass@8", "pass@16"}
    assert f"less GRPO's best three, for {len(early)} of pass@8 and pass@16" in said
    end = answers[(answers.quantity == "pass@16") & (answers.comparison == "end") & (answers.setting == "paper")]
    end = PERCENT * end[end.question == "accurate_pays"][columns].iloc[0]
    assert f"shrinks with the band, to {end.value:+.1f} [{end.low:+.1f}, {end.high:+.1f}] at the end" in said
    entropy = long.curves[(long.curves.part == "accurate") & long.curves.step.between(1000, 3000)]
    entropy = entropy.groupby("arm").entropy.mean()
    assert f"it has {entropy['solved_bonus']:.2f} nats and GRPO {entropy['grpo']:.2f}, and its" in said
    middle = rows[rows.step.between(1000, 3000)]
    paper, plain = (apart(middle[middle.setting == setting]) for setting in ("paper", "t1"))
    assert f"its pass@16 differs by {paper} (at temperature 1 by {plain}; two seeds), pass@1" in said
    cost = apart(middle[middle.setting == "t1"], 1).partition(" ")[0]
    assert f"pass@1 at temperature 1 by {cost};" in said
    elsewhere = long.evaluations[(long.evaluations.setting == "paper") & long.evaluations.step.between(1000, 3000)]
    large, single = (apart(elsewhere[elsewhere.part == part]) for part in ("eight_times", "on_policy"))
    assert f"with eight times the parameters pass@16 differs by {large}, with one step a batch by {single}." in said
    behind = [
        PERCENT * (estimate(early[early.arm == "grpo"], 1).value - estimate(early[early.arm != "grpo"], 1).value)
        for _, early in rows[(rows.setting == "t1") & rows.step.between(200, 1000)].groupby("step")
    ]
    assert f"{min(behind):.0f} to {max(behind):.0f} points of pass@1 behind up to step 1000" in said
    at_one = rows[rows.setting == "t1"]
    gaps = [
        PERCENT
        * saturation.gap_of(
            long.curves.query(f"part == 'accurate' and arm == '{arm}'"), at_one[at_one.arm == arm]
        ).value.iloc[-1]
        for arm in ("grpo", "solved_bonus")
    ]
    assert "ends at {:.0f} points for GRPO and {:.0f} for control".format(*gaps) in said


def test_what_the_long_study_says_of_four_passes_is_what_its_tables_say():
    said, long = " ".join(README.split()), Data().long
    runs = long.runs[long.runs.part == "off_policy"]
    plain, held = (runs[runs.arm == arm].entropy for arm in ("grpo", "solved_bonus"))
    assert f"than with one, {plain.min():.2f} to {plain.max():.2f} nats over the run" in said
    rows = long.comparison.query("setting == 'paper' and comparison == 'level'").set_index(["part", "arm", "quantity"])
    level = PERCENT * rows.loc[("off_policy", "grpo", "pass@1"), ["value", "low", "high"]].astype(float)
    many, one = (PERCENT * rows.value[part, "grpo", "pass@16"] for part in ("off_policy", "linear"))
    ends = "ends at {:.1f} % [{:.1f}, {:.1f}], its pass@16 at ".format(*level)
    assert f"{ends}{many:.1f} where one pass has {one:.1f}:" in said
    late = long.curves.query("part == 'off_policy' and arm == 'solved_bonus' and step >= 200")
    late = late[late.step < 220].groupby("seed").entropy.mean()
    assert f"Within 200 steps entropy is at {late.min():.1f} and {late.max():.1f} nats, no answer is right" in said
    held = long.evaluations.query("part == 'off_policy' and arm == 'solved_bonus' and step > 0")
    right = [PERCENT * estimate(same, 1).value for _, same in held.groupby(["setting", "step"])]
    assert f"cannot lower entropy: {max(right):.1f} % at the end" in said


def test_what_the_long_study_says_of_a_high_target_is_what_its_tables_say():
    said, high = " ".join(README.split()), {"part": "high", "setting": "paper", "quantity": "pass@1", "study": LONG}
    bonus, soft = (
        "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(PERCENT * of for of in (end.value, end.low, end.high)))
        for end in (comparison(Data(), **high, arm=arm, comparison="same_samples") for arm in ("solved_bonus", "soft"))
    )
    off = run(Data(), part="high", arm="soft", column="rmse", study=LONG).value
    points = bonus.replace(" ", " points ", 1)
    assert f"from GRPO by {points} at the end, soft weights, which hold the target ({off:.2f} nats), by {soft};" in said
    early, late = (
        roughness(Data(), part="high", arm="solved_bonus", column="entropy", start=start, end=start + 800).value
        for start in (0, 3200)
    )
    assert f"calm at first, though ({early:.3f} nats, {late:.3f} over the last 800 steps)" in said


def apart(rows, k=16):
    """pass@k of the solved bonus less GRPO's, mean over the evaluations given, in points; seeds, prompts resampled."""
    sides = []
    for arm in ("solved_bonus", "grpo"):
        seeds = [seed for _, seed in rows[rows.arm == arm].groupby("seed")]
        values = [[pass_at_k(counts_of(row.counts), row.samples, k) for row in seed.itertuples()] for seed in seeds]
        sides.append(np.array(values).mean(1))
    found = bootstrap_pairs(PERCENT * (sides[0] - sides[1]), generator=np.random.default_rng(0))
    return f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def itself(part, arm, setting):
    """The last three evaluations of an arm less its own best three, by the protocol's rule, seed by seed."""
    every = pd.concat([Data().long.evaluations, Data().long.final]).sort_values("samples", kind="stable")
    rows = every[(every.part == part) & (every.arm == arm) & (every.setting == setting)]
    rows = rows.drop_duplicates(["seed", "step"], keep="last").sort_values("step")
    for _, seed in rows.groupby("seed"):
        values = np.array([counts_of(row.counts) / row.samples for row in seed.itertuples()])
        found = History(seed.step.to_numpy(), values, seed.samples.to_numpy())
        yield (last(found, 3) - best(found, 3)).mean()


def test_what_the_long_study_says_of_other_controllers_is_what_its_tables_say():
    said, runs = " ".join(README.split()), Data().long.runs.query("part == 'linear'")
    arms = ("clip_higher", "clip_cov", "entropic")
    ends = [runs[runs.arm.isin(names)].entropy_end.agg(["min", "max"]) for names in (arms, ["grpo"])]
    assert (
        "end at {:.2f} to {:.2f} nats, GRPO at {:.2f} to {:.2f}; EntroPIC was asked for 0.4".format(*ends[0], *ends[1])
        in said
    )
    rises = [
        PERCENT * progress(Data(), part="linear", arm=arm, setting="paper", start=1000, end=4000).value
        for arm in (*arms, "grpo")
    ]
    assert f"by {min(rises[:3]):.1f} to {max(rises[:3]):.1f} points of pass@1, GRPO by {rises[3]:.1f}" in said


def test_what_the_long_study_says_of_accuracy_on_the_way_is_what_its_tables_say():
    said, long = " ".join(README.split()), Data().long
    rows = long.evaluations[long.evaluations.part == "linear"]
    for setting, between in (("paper", " %, GRPO's "), ("t1", " and ")):
        same = rows[rows.setting == setting]
        early, middle = same[same.step == 200], same[(same.step >= 1000) & (same.step <= 3000)]
        method, plain = (PERCENT * estimate(early[early.arm == arm], 16).value for arm in ("algorithm1", "grpo"))
        assert f"{method:.1f}{between}{plain:.1f}" in said
        assert f"by {apart(middle)}" in said
    released = rows[(rows.setting == "paper") & (rows.arm == "released")]
    for _, seed in released.groupby("seed"):
        right = held_out(seed, 1).set_index("step")["mean"]
        assert right[200] <= right[0] / 4
    gaps = saturation.summarise(long).gap
    first, end = ({arm: table.value.iloc[place] * PERCENT for arm, table in gaps.items()} for place in (0, -1))
    many = ("grpo", "bonus_0.01", "solved_bonus")
    assert f"from {min(first[arm] for arm in many):.0f} to {max(first[arm] for arm in many):.0f} points to some" in said
    assert {f"{end[arm]:.0f}" for arm in many} <= {"15", "16"}, "some 15 points"
    assert f"from {first['soft']:.0f} to some {end['soft']:.0f} with soft weights" in said
    early = rows[(rows.setting == "paper") & rows.step.between(200, 1000)]
    seeds = early[early.arm == "soft"].seed.unique()
    soft, predicted, plain = (
        held_out(early[(early.arm == arm) & early.seed.isin(seeds)], 1)["mean"] for arm in ("soft", "rejection", "grpo")
    )
    assert f"They are {PERCENT * (plain - soft).mean():.0f} points of pass@1 behind GRPO" in said
    assert f"{PERCENT * (plain - predicted).mean():.0f} points behind at first" in said
