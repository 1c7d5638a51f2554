"""Every command and every example of the README is one that works."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from figures.estimates import held_out
from figures.own import table_control, table_decision
from figures.study import Data
from trainer.parsing import as_yaml, load_config

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
    for name in (
        "solved bonus less GRPO",
        "bonus 0.01 less GRPO",
        "solved bonus less bonus 0.01",
        "Algorithm 1 less GRPO",
    ):
        row = found.loc[name]
        cells = row[["last three less best three (points)", "t over seeds", "verdict", "pass@256 at the end"]]
        assert row.seeds == "5"
        assert f"| {' | '.join([name, *cells])} |" in said
    answer = found.loc["solved bonus less GRPO"]
    assert f"question: **{answer.verdict}**" in said
    assert f"A gain of {answer['could be seen'].removeprefix('+')} points would have been found" in said
    plateau = found.loc["Algorithm 1 less GRPO"]
    assert f"flat from step {plateau['its plateau (step)'].split()[0]}," in said
    assert f"a factor of more than {plateau['factor'].removeprefix('at most ')} is excluded" in said


def test_what_the_long_study_says_of_entropy_is_what_its_tables_say():
    said, long = " ".join(README.split()), Data().long
    runs, curves = (rows[rows.part == "linear"] for rows in (long.runs, long.curves))
    held, fixed, ends = (
        runs[runs.arm == arm][column]
        for arm, column in (
            ("algorithm1", "in_band_smooth"),
            ("bonus_0.01", "entropy"),
            ("solved_bonus", "entropy_end"),
        )
    )
    assert f"on {100 * held.min():.0f} to {100 * held.max():.0f} % of the smoothed steps" in said
    assert f"mean entropies are {fixed.min():.2f} to {fixed.max():.2f} nats" in said
    assert f"ends at {ends.min():.2f} to {ends.max():.2f} nats." in said
    above = curves[(curves.arm == "solved_bonus") & (curves.step >= 2000)].groupby("seed").share_above.mean()
    assert f"on {100 * above.min():.0f} to {100 * above.max():.0f} % of the steps after 2000, seed by seed" in said
    near = curves[curves.step == 2000].groupby("arm").entropy.mean()
    assert f"the solved bonus has {near['solved_bonus']:.2f} nats and GRPO {near['grpo']:.2f}" in said
    rows = long.evaluations[(long.evaluations.part == "linear") & (long.evaluations.setting == "paper")]
    at = {arm: held_out(same, 16).set_index("step")["mean"] for arm, same in rows.groupby("arm")}
    assert f"pass@16 is down to {100 * at['algorithm1'][200]:.0f} %, half of GRPO's" in said
    assert at["algorithm1"][200] / at["grpo"][200] == pytest.approx(1 / 2, abs=0.05)
    assert abs(at["solved_bonus"][2000] - at["grpo"][2000]) < 0.01
    for arm in ("grpo", "solved_bonus"):
        assert 1 - at[arm][200] / at[arm][0] == pytest.approx(1 / 3, abs=0.04)
