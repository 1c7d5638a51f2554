"""What the columns of a source become: names, templates, conversations, and every refusal."""

import json

import pytest

from trainer.config import DataConfig, TrainConfig
from trainer.data import FilePrompts, Layout, TaskPrompts, build_prompts, read_rows
from trainer.data.rows import is_conversation
from trainer.parsing import as_yaml, config_from, load_config
from trainer.tasks.countdown import Countdown

ASKED = [{"role": "user", "content": "1 + 1"}]
ROWS = [{"question": "1 + 1", "solution": "2", "level": 3}, {"question": "2 {x}", "solution": "4", "level": None}]


@pytest.fixture
def rows_of(tmp_path):
    """A function that reads these rows from a file."""

    def read(rows, **layout):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return read_rows(str(path), Layout(**layout))

    return read


def test_columns_are_given_under_their_own_and_their_further_names(rows_of):
    rows = rows_of(ROWS, prompt_column="question", columns={"answer": "solution", "level": "question"})
    assert rows[1] == {"question": "2 {x}", "solution": "4", "answer": "4", "level": "2 {x}", "prompt": "2 {x}"}


def test_a_part_of_a_column_is_named_with_dots(rows_of):
    nested = [
        {"info": {"q": "1 + 1"}, "reward": {"truth": {"text": "2"}}, "a.b": 3},
        {"info": {"q": "x"}, "reward": None},
    ]
    columns = {"answer": "reward.truth.text", "more": "a.b"}
    rows = rows_of(nested, prompt_column="info.q", columns=columns)
    assert [(row["prompt"], row["answer"], row["more"]) for row in rows] == [("1 + 1", "2", 3), ("x", None, None)]
    with pytest.raises(ValueError, match=r"got no \['reward\.truth\.txt'\] in \['a\.b', 'info', 'reward'\]"):
        rows_of(nested, prompt_column="info.q", columns={"answer": "reward.truth.txt"})


def test_a_template_makes_the_prompt_and_leaves_the_columns(rows_of):
    rows = rows_of(ROWS[:1], prompt_column="question", template="Q{level}: {prompt} \\boxed{{{solution}}} {{}}")
    assert rows == [{**ROWS[0], "prompt": "Q3: 1 + 1 \\boxed{2} {}"}]


def test_braces_in_values_are_text(rows_of):
    assert rows_of(ROWS, prompt_column="question", template="{prompt}?")[1]["prompt"] == "2 {x}?"


def test_a_template_of_other_columns_needs_no_prompt_column(rows_of):
    assert rows_of(ROWS, columns={"answer": "solution"}, template="{question}={answer}")[0]["prompt"] == "1 + 1=2"


def test_conversations_are_taken_as_they_are(rows_of):
    assert rows_of([{"prompt": ASKED}], chat=True) == [{"prompt": ASKED}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ASKED, True),
        ([*ASKED, {"role": "tool", "content": "", "name": None}], True),
        ([], False),
        (ASKED[0], False),
        ([{"role": "user"}], False),
        ([{"content": "a"}], False),
        ([{"role": "user", "content": [{"type": "image"}]}], False),
        (["a"], False),
    ],
)
def test_a_conversation_is_a_list_of_messages_of_text(value, expected):
    assert is_conversation(value) == expected


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"columns": {"answer": "answr"}}, r"data\.columns; got no \['answr'\] in \['level', 'question', 'solution'\]"),
        ({}, r"column 'prompt' of every row; row 1 has none, its columns are \['level', 'question', 'solution'\]"),
        ({"template": "{a} {prompt}"}, r"of \['level', 'prompt', 'question', 'solution'\]; got \['a'\]\. Write {{ and"),
        ({"template": r"\boxed{}"}, r"got \[''\]\. Write {{ and }}"),
        ({"template": "{level:.2f} {question!r}"}, r"got \['level:\.2f', 'question!r'\]"),
        ({"template": "{level}"}, r"row 2 has none in \['level'\]"),
        ({"template": "{question"}, r"data\.template='{question' .*got: expected '}'.*Write {{ and }}"),
        ({"template": "question}"}, r"got: Single '}'"),
        ({"columns": {"prompt": "question"}}, r"must not give the names \['prompt'\].*data\.prompt_column"),
        ({"columns": {"completions": "question"}}, r"must not give the names \['completions'\]"),
    ],
)
def test_names_that_cannot_be_used_are_refused_with_those_that_can(rows_of, layout, message):
    with pytest.raises(ValueError, match=message):
        rows_of(ROWS, **layout)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({}, r"without data\.chat; row 1 has a conversation\. Set data\.chat: true"),
        ({"chat": True, "template": "{prompt}"}, r"row 1 has a conversation\. Leave data\.template null"),
    ],
)
def test_a_conversation_is_refused_where_only_text_can_be_used(rows_of, layout, message):
    with pytest.raises(ValueError, match=message):
        rows_of([{"prompt": ASKED}], **layout)


def test_a_task_takes_a_template_and_columns_too():
    plain = TaskPrompts(Countdown(), seed=0, split="test", held_out_seed=1)
    layout = Layout(columns={"goal": "target"}, template="Reach {goal}: {prompt}")
    asked = TaskPrompts(Countdown(), seed=0, split="test", held_out_seed=1, layout=layout)
    for before, after in (
        (plain.train_rows(2, 3), asked.train_rows(2, 3)),
        (plain.held_out_rows("test", 3), asked.held_out_rows("test", 3)),
    ):
        assert after == [
            {**row, "goal": row["target"], "prompt": f"Reach {row['target']}: {row['prompt']}"} for row in before
        ]


@pytest.fixture
def prompts_of(tmp_path):
    """A function that builds the prompts of these files' rows with these settings."""

    def build(files, **settings):
        for name, rows in files.items():
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        held_out = {name: str(tmp_path / f"{name}.jsonl") for name in files if name != "train"}
        data = {"prompts": str(tmp_path / "train.jsonl"), "held_out": held_out, **settings}
        return build_prompts(TrainConfig(data=DataConfig(**data)))

    return build


def test_held_out_sets_have_their_names_and_may_have_columns_of_their_own(tmp_path):
    for name, row in (("train", {"q": "1", "a": 2}), ("near", {"q": "3", "a": 4}), ("far", {"problem": "5", "s": 6})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    far = {"source": str(tmp_path / "far.jsonl"), "prompt_column": "problem", "columns": {"answer": "s"}}
    data = {"prompts": str(tmp_path / "train.jsonl"), "held_out": {"near": str(tmp_path / "near.jsonl"), "far": far}}
    config = config_from({"data": {**data, "prompt_column": "q", "columns": {"answer": "a"}, "template": "{prompt}="}})
    (tmp_path / "written.yaml").write_text(as_yaml(config))
    assert load_config("--config", str(tmp_path / "written.yaml")) == config
    prompts = build_prompts(config)
    assert isinstance(prompts, FilePrompts)
    assert prompts.held_out_sets == ("near", "far")
    assert prompts.held_out_rows("near", 9) == [{"q": "3", "a": 4, "answer": 4, "prompt": "3="}]
    assert prompts.held_out_rows("far", 9) == [{"problem": "5", "s": 6, "answer": 6, "prompt": "5="}]


def test_a_single_held_out_source_is_the_set_held_out(tmp_path, prompts_of):
    (tmp_path / "one.jsonl").write_text('{"prompt": "b"}')
    prompts = prompts_of({"train": [{"prompt": "a"}]}, held_out=str(tmp_path / "one.jsonl"))
    assert prompts.held_out_sets == ("held_out",)
    assert prompts_of({"train": [{"prompt": "a"}]}, held_out=None).held_out_sets == ()


def test_prompts_that_are_trained_on_are_not_held_out(prompts_of):
    files = {
        "train": [{"prompt": " 1 +\n1"}, {"prompt": "b"}, {"prompt": "c"}],
        "clean": [{"prompt": "d"}, {"prompt": "d"}],
        "mixed": [{"prompt": "e"}, {"prompt": "1 + 1"}, {"prompt": "c "}],
    }
    with pytest.raises(
        ValueError, match=r"data\.held_out \(set 'mixed'\) .* 2 of 3, the first '1 \+ 1'.*data\.overlap: allow"
    ):
        prompts_of(files)
    assert len(prompts_of(files, overlap="allow").held_out_rows("mixed", 9)) == 3
    assert len(prompts_of({name: files[name] for name in ("train", "clean")}).held_out_rows("clean", 9)) == 2


def test_overlap_is_seen_after_the_template_and_in_conversations(prompts_of):
    files = {"train": [{"q": "a", "more": "x"}], "test": [{"q": "a", "more": "y"}]}
    assert prompts_of(files, prompt_column="q", template="{q} {more}").held_out_rows("test", 1)
    with pytest.raises(ValueError, match="1 of 1, the first 'a'"):
        prompts_of(files, prompt_column="q")
    told = [{"role": "system", "content": "brief"}, *ASKED]
    spoken = {"train": [{"prompt": "1 + 1"}, {"prompt": told}], "test": [{"prompt": ASKED}]}
    with pytest.raises(ValueError, match=r"1 of 1, the first '1 \+ 1'"):
        prompts_of(spoken, chat=True)
    assert prompts_of({**spoken, "train": [{"prompt": told}]}, chat=True).held_out_rows("test", 1)
