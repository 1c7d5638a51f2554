"""`entrocraft methods`, recipes as configurations, and the combinations that are refused."""

import re

import pytest
import yaml

from trainer.algorithm import build_algorithm
from trainer.config import TrainConfig
from trainer.methods.assembly import DEFAULTS, assemble
from trainer.methods.combinations import CONFLICTS, check_combination
from trainer.methods.recipes import RECIPES
from trainer.methods.table import METHODS, MISSING, STAGES
from trainer.parsing import load_config


def rows_of(text):
    """The name and the rest of each row of the listing."""
    return re.findall(r"^  (\w+) +(\S.*)$", text, re.M)


def tables_of(text):
    """By title: header and rows of the Markdown tables, cells split at unescaped bars; all lines equally long."""
    found = {}
    for title, table in re.findall(r"^\*\*(.+?)\*\*.*\n\n((?:\|.*\n)+)", text, re.M):
        lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
        assert {len(line) for line in lines} == {len(lines[0])}, title
        assert set("".join(lines[1])) == {"-"}
        found[title] = lines[0], lines[2:]
    return found


def test_every_row_of_the_table_is_listed_with_its_options_and_source(command):
    shown = command("methods")
    assert shown.code == 0, shown.said
    listed = rows_of(shown.printed)
    for method in METHODS:
        assert (method.name, method.summary) in listed
        assert method.source in shown.printed
        assert method.ours in shown.printed
        assert all(option in shown.printed for option in method.options)
    for name, recipe in RECIPES.items():
        assert name in dict(listed)
        assert recipe.source in shown.printed
    assert set(MISSING.items()) <= set(listed)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_alone(command, stage):
    shown = command("methods", "--stage", stage).printed
    own = [method.name for method in METHODS if method.stage == stage]
    found = [name for name, _ in rows_of(shown) if name in {method.name for method in METHODS}]
    assert shown.splitlines()[0] == stage
    assert found == own
    assert not any(name in shown for name in MISSING)


def test_markdown_is_made_of_whole_tables(command):
    tables = tables_of(command("methods", "--markdown", "true").printed)
    assert list(tables) == [*STAGES, "recipes", "not implemented"]
    for stage in STAGES:
        header, rows = tables[stage]
        assert header == ["name", "what it does", "options", "state", "source", "ours"]
        methods = [method for method in METHODS if method.stage == stage]
        assert [row[0] for row in rows] == [f"`{method.name}`" for method in methods]
        assert [row[3] for row in rows] == [", ".join(method.state) for method in methods]
        assert [row[5] for row in rows] == [method.ours.replace("|", "\\|") for method in methods]
    assert [row[0].strip("`") for row in tables["recipes"][1]] == list(RECIPES)
    assert [row[0].strip("`") for row in tables["not implemented"][1]] == list(MISSING)
    assert list(tables_of(command("methods", "--stage=clip", "--markdown=true").printed)) == ["clip"]


def test_one_method_in_full(command):
    shown = command("methods", "ppo").printed
    assert shown.startswith("clip\n  ppo  ")
    for part in ("options: low=0.2, high=0.2", "arXiv 1707.06347", "Args:", "low: the lower clip range"):
        assert part in shown
    both = command("methods", "grpo").printed
    assert "eps=1e-06" in both
    assert "recipe\n  grpo " in both
    assert "recipe" not in command("methods", "grpo", "--stage", "advantage").printed
    stateful = command("methods", "aec").printed
    assert re.search(r"state: \w+", stateful)


def test_a_recipe_and_a_missing_method_in_full(command):
    assert '{"filter": "released", "denominator": "zero", "reward.convention": "signed"}' in (
        command("methods", "released").printed
    )
    assert '"mini_batches": 1' in command("methods", "opefo").printed
    for name, why in MISSING.items():
        shown = command("methods", name)
        assert (shown.code, shown.printed) == (0, f"{name} is not implemented: {why}\n")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["algoritm1"], ["algoritm1", "Did you mean 'algorithm1'?", "`entrocraft methods` lists all"]),
        (["qqqq"], ["qqqq", "must name a method or recipe", "`entrocraft methods`"]),
        (["gspo", "--stage=advantage"], ["must name a method of advantage"]),
        (["--stage=advantages"], ["--stage advantages", "Did you mean 'advantage'?", "token_weight"]),
    ],
)
def test_unknown_names(command, given, words):
    shown = command("methods", *given)
    assert shown.code == 1
    assert [word for word in words if word not in shown.said] == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_configuration_and_builds(name, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("--config", "quickstart", "--config", name)
    algorithm, recipe = config.algorithm, RECIPES[name]
    for key, value in recipe.settings.items():
        assert getattr(algorithm, key) == value
    for key, value in DEFAULTS.items():
        assert key in recipe.settings or getattr(algorithm, key) == value
    assert config.steps == load_config("--config", "quickstart").steps
    assert config.reward.convention == recipe.reward
    updates = algorithm.mini_batches * algorithm.epochs
    assert updates == 1 if recipe.on_policy else updates >= max(recipe.mini_batches, 1)
    built = build_algorithm(config)
    assert (built.shaping is None) == (algorithm.shaping is None)
    assert len(built.terms) == len(algorithm.terms)


def test_recipes_print_as_configurations_that_can_be_read_again(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clip_cov", "opefo", "entropic_paper"):
        shown = command("train", "--config", "quickstart", "--config", name, "--print_config")
        assert shown.code == 0, shown.said
        assert yaml.safe_load(shown.printed)["algorithm"]["shaping"] == RECIPES[name].settings.get("shaping")
        (tmp_path / "printed.yaml").write_text(shown.printed)
        assert load_config("--config=printed.yaml") == load_config("--config=quickstart", f"--config={name}")


def test_a_later_recipe_comes_on_top_and_an_unknown_one_is_refused():
    both = load_config("--config", "dapo", "--config", "gspo").algorithm
    assert (both.filter, both.clip, both.denominator) == ("dapo_groups", "gspo", "sequence")
    with pytest.raises(ValueError, match=r"--config algoritm1 must name .* Did you mean 'algorithm1'\?"):
        load_config("--config", "algoritm1")


# Settings, and optimiser steps a batch: what each combination that is refused looks like.
REFUSED = [
    ({"filter": "released", "shaping": "whiten"}, None),
    ({"filter": "algorithm1", "advantage": "nsr"}, None),
    ({"filter": "soft", "denominator": "sequence"}, None),
    ({"filter": "soft", "filter_options": {"level": "token"}, "token_weight": "steer"}, None),
    ({"filter": "rejection", "denominator": "drop"}, None),
    ({"filter": "solved_bonus", "denominator": "sequence"}, None),
    ({"clip": "gspo", "token_weight": "steer"}, None),
    ({"terms": {"kl_cov": {}}}, 1),
    ({"terms": {"aec": {}, "entropy_bonus": {"coefficient": 0.1}}}, None),
    ({"filter": "solved_bonus", "terms": {"aec": {}}}, None),
    ({"shaping": "dcpo", "filter": "algorithm1"}, None),
    ({"shaping": "ucpo", "advantage": "reinforce"}, None),
    ({"shaping": "opefo"}, 2),
]


def reasons(settings, updates):
    """What refuses the settings."""
    return [conflict.reason for conflict in CONFLICTS if conflict.applies({**DEFAULTS, **settings}, updates or 0)]


@pytest.mark.parametrize(("settings", "updates"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_does_not_go_together_is_refused_with_the_reason(settings, updates):
    (reason,) = reasons(settings, updates)
    with pytest.raises(ValueError, match=f"^algorithm: {re.escape(reason)}$"):
        assemble(settings, updates=updates)


def test_every_conflict_is_met_and_none_by_a_recipe():
    met = [reason for settings, updates in REFUSED for reason in reasons(settings, updates)]
    assert sorted(met) == sorted(conflict.reason for conflict in CONFLICTS)
    for name, recipe in RECIPES.items():
        for updates in (1, 4):
            fits = not (recipe.on_policy and updates > 1) and updates >= recipe.mini_batches
            assert not (fits and reasons(recipe.settings, updates)), name


@pytest.mark.parametrize(
    ("settings", "updates"),
    [
        ({"filter": "soft", "denominator": "zero"}, None),
        ({"filter": "soft", "filter_options": {"level": "token"}, "denominator": "drop"}, None),
        ({"filter": "soft", "filter_options": {"level": "rollout"}, "denominator": "zero"}, None),
        ({"filter": "soft", "denominator": "zero", "token_weight": "steer"}, None),
        ({"filter": "rejection", "denominator": "zero"}, None),
        ({"filter": "solved_bonus", "denominator": "drop"}, None),
        ({"filter": "algorithm1", "advantage": "w_reinforce"}, None),
        ({"terms": {"kl_cov": {}}}, 2),
        ({"shaping": "ucpo", "advantage": "rloo"}, None),
        ({"shaping": "opefo"}, 1),
        ({"filter": "solved_bonus", "terms": {"kl": {"coefficient": 0.1}}}, None),
    ],
)
def test_the_remedies_are_accepted(settings, updates):
    check_combination({**DEFAULTS, **settings}, updates=updates)


def test_a_run_is_refused_by_its_own_number_of_updates():
    with pytest.raises(ValueError, match="strictly on-policy"):
        build_algorithm(load_config("--algorithm.shaping=opefo"))
    assert build_algorithm(load_config("--config=opefo")).shaping is not None
    with pytest.raises(ValueError, match=r"rloo.*rollout\.group_size=1.*reinforce"):
        build_algorithm(load_config("--config=rloo", "--rollout.group_size=1"))
    assert TrainConfig().algorithm.mini_batches > 1
