"""Where prompts come from: passes over files, tasks, and every refusal of what cannot be used."""

import json

import pytest

from trainer.data import FilePrompts, Layout, TaskPrompts, encode_prompts, read_rows
from trainer.tasks.countdown import Countdown, split_of

ROWS = [{"prompt": f"p{index}", "answer": index} for index in range(7)]
SOURCE = FilePrompts(ROWS, {"near": ROWS[:2], "far": ROWS[2:3]}, seed=3)


def taken(source, steps, count):
    """The rows of these steps, as indices into ROWS."""
    return [[row["answer"] for row in source.train_rows(step, count)] for step in steps]


@pytest.mark.parametrize("count", [1, 3, 7, 10, 20])
def test_each_pass_over_a_file_is_a_permutation(count):
    # steps run on across the ends of passes, and a step may hold several passes
    steps = 70 // count + 1
    sequence = [row for rows in taken(SOURCE, range(steps), count) for row in rows]
    passes = [sequence[start : start + 7] for start in range(0, 70, 7)]
    assert all(sorted(turn) == list(range(7)) for turn in passes)
    assert len(set(map(tuple, passes))) == 10  # odds of a repeat by chance: 45 / 5040


def test_file_prompts_are_a_function_of_seed_and_step():
    in_order = taken(SOURCE, range(6), 4)
    assert taken(SOURCE, [5, 0, 3], 4) == [in_order[5], in_order[0], in_order[3]]
    assert taken(FilePrompts(ROWS, {}, seed=3), range(6), 4) == in_order
    assert taken(FilePrompts(ROWS, {}, seed=4), range(6), 4) != in_order


def test_file_prompts_hold_out_the_first_rows_as_they_are():
    assert SOURCE.held_out_sets == ("near", "far")
    assert SOURCE.held_out_rows("near", 1) == ROWS[:1]
    assert SOURCE.held_out_rows("near", 5) == ROWS[:2]
    assert SOURCE.held_out_rows("far", 5) == ROWS[2:3]
    assert SOURCE.rows_to_check() == [*ROWS, *ROWS[:3]]
    assert FilePrompts(ROWS, {}, seed=3).held_out_sets == ()


@pytest.mark.parametrize("split", ["test", "validation"])
def test_task_prompts_are_of_their_split_and_different(split):
    source = TaskPrompts(Countdown(), seed=0, split=split, held_out_seed=1)
    assert source.held_out_sets == (split,)
    held_out = source.held_out_rows(split, 60)
    assert len({row["prompt"] for row in held_out}) == 60
    assert {split_of(row["numbers"], row["target"]) for row in held_out} == {split}
    assert source.held_out_rows(split, 20) == held_out[:20]
    train = [source.train_rows(step, 30) for step in (0, 1, 0)]
    assert {split_of(row["numbers"], row["target"]) for row in train[0] + train[1]} == {"train"}
    assert train[0] == train[2] != train[1]


def test_held_out_prompts_are_shared_by_runs_of_other_seeds():
    one, other = (TaskPrompts(Countdown(), seed=seed, split="test", held_out_seed=1) for seed in (0, 5))
    assert one.held_out_rows("test", 10) == other.held_out_rows("test", 10)
    assert one.train_rows(0, 10) != other.train_rows(0, 10)


class FourPrompts:
    """A task with four prompts, each drawn twice before the next."""

    def __init__(self):
        self.drawn = 0

    def row(self, split, *, generator):
        self.drawn += 1
        return {"prompt": f"p{self.drawn // 2 % 4}"}


def test_a_task_that_has_no_more_prompts_gives_fewer():
    source = TaskPrompts(FourPrompts(), seed=0, split="test", held_out_seed=1)
    assert len(source.held_out_rows("test", 3)) == 3
    assert sorted(row["prompt"] for row in source.held_out_rows("test", 9)) == ["p0", "p1", "p2", "p3"]


def write(tmp_path, text):
    path = tmp_path / "prompts.jsonl"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_rows_are_read_with_their_columns_and_the_prompt_by_its_name(tmp_path):
    path = write(tmp_path, '{"question": "1 + 1", "answer": 2}\n\n{"question": "é", "answer": null}\n')
    assert read_rows(path, Layout("question")) == [
        {"question": "1 + 1", "answer": 2, "prompt": "1 + 1"},
        {"question": "é", "answer": None, "prompt": "é"},
    ]


def test_a_column_that_only_some_rows_have_is_none_in_the_others(tmp_path):
    path = write(tmp_path, '{"prompt": "a"}\n{"prompt": "b", "answer": 2}\n')
    assert read_rows(path, Layout()) == [{"prompt": "a", "answer": None}, {"prompt": "b", "answer": 2}]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_only_newlines_end_a_line(tmp_path, sign):
    # str.splitlines would split at these, which JSON allows inside a string
    path = write(tmp_path, json.dumps({"prompt": f"one{sign}two"}, ensure_ascii=False) + "\n")
    assert read_rows(path, Layout()) == [{"prompt": f"one{sign}two"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"prompts\.jsonl.*at least one prompt"),
        ("\n \n", r"prompts\.jsonl.*at least one prompt"),
        ('{"prompt": "a"}\n{"prompt": \n', r"prompts\.jsonl.*JSON.*line 2"),
        ('{"prompt": "a"}\nprompt\n', r"prompts\.jsonl.*JSON.*line 2"),
        ('{"prompt": "a"}\n{"question": "b"}\n', r"column 'prompt'.*(line|row) 2.*data\.prompt_column"),
        ('{"prompt": "a"}\n{"prompt": 7}\n', r"column 'prompt'.*(line|row) 2"),
        ('{"prompt": "a"}\n{"prompt": null}\n', r"column 'prompt'.*(line|row) 2"),
        ('["prompt"]\n', r"column 'prompt'.*(line|row) 1"),
        ('"prompt"\n', r"column 'prompt'.*(line|row) 1"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_rows(write(tmp_path, text), Layout())


@pytest.mark.parametrize("name", ["nowhere.jsonl", "."])
def test_a_missing_file_is_refused_by_name(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"read_rows.*Check data\.prompts"):
        read_rows(str(tmp_path / name), Layout())


def prompts_of(*texts):
    return [{"prompt": text} for text in texts]


def test_prompts_are_encoded_word_by_word(tiny):
    assert encode_prompts(tiny, prompts_of("w0 w9", "w3"), 8) == [[2, 11], [5]]


def test_the_longest_prompt_that_leaves_room_is_taken_and_one_more_word_is_not(tiny):
    # the context holds 32 tokens
    assert len(encode_prompts(tiny, prompts_of("w1 " * 24), 8)[0]) == 24
    with pytest.raises(ValueError, match=r"prompt='w1 w1.*1 to 24 tokens \(context 32 less .* 8\); got 25"):
        encode_prompts(tiny, prompts_of("w0", "w1 " * 25), 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", r"prompt=''\).*got 0"), ("   ", r"got 0"), ("w1 x9 w2", r"prompt='w1 x9 w2'.*known words.*unknown token")],
)
def test_prompts_that_cannot_be_used_are_refused_by_their_text(tiny, text, message):
    with pytest.raises(ValueError, match=message):
        encode_prompts(tiny, prompts_of("w0", text), 8)


def test_completions_are_decoded_without_their_end_token_and_with_everything_else(tiny):
    # what is scored is what was generated: an unknown token, or an end token elsewhere, is not swept away
    completions = [[2, 5, 0], [2, 1], [0], [], [0, 3], [4, 0, 0]]
    assert tiny.decode(completions) == ["w0 w3", "w0 <unk>", "", "", "<eos> w1", "w2 <eos>"]
