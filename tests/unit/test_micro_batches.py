"""Rows split into passes: every row once, within the limits, and as many passes for every process."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.micro_batches import dealt, micro_batches
from trainer.workers import ALONE, Workers, shares

LENGTHS = st.lists(st.integers(1, 40), max_size=25)
ROWS, TOKENS, COUNTS = st.integers(1, 6), st.integers(1, 90), st.integers(1, 4)


def places(parts):
    return [place for part in parts for place in part.tolist()]


def passes_of_all(lengths, rows, tokens, count):
    """Every process's passes, by rank."""
    sizes = torch.tensor(lengths, dtype=torch.long)
    return [dealt(sizes, rows, tokens, Workers(rank, count)) for rank in range(count)]


@given(LENGTHS, ROWS)
def test_counted_by_rows_they_keep_their_order_and_all_but_the_last_are_full(lengths, rows):
    parts = micro_batches(torch.tensor(lengths, dtype=torch.long), rows)
    assert places(parts) == list(range(len(lengths)))
    assert all(len(part) == rows for part in parts[:-1])
    assert all(0 < len(part) <= rows for part in parts)


@given(LENGTHS, ROWS, TOKENS)
def test_a_token_budget_holds_with_padding_unless_a_row_alone_exceeds_it(lengths, rows, tokens):
    parts = micro_batches(torch.tensor(lengths, dtype=torch.long), rows, tokens)
    assert sorted(places(parts)) == list(range(len(lengths)))
    for part in parts:
        longest = max(lengths[place] for place in part.tolist())
        assert 0 < len(part) <= rows
        assert len(part) * longest <= tokens or len(part) == 1
    ordered = [lengths[place] for place in places(parts)]
    assert ordered == sorted(ordered, reverse=True)
    # a pass ends where the next row would break a limit, not earlier
    for part in parts[:-1]:
        longest = max(lengths[place] for place in part.tolist())
        assert len(part) == rows or (len(part) + 1) * longest > tokens


def test_rows_of_one_length_keep_their_order_under_a_budget():
    parts = micro_batches(torch.tensor([5, 5, 7, 5, 5]), rows=8, tokens=10)
    assert [part.tolist() for part in parts] == [[2], [0, 1], [3, 4]]


def test_no_rows_take_no_pass():
    nothing = torch.tensor([], dtype=torch.long)
    assert micro_batches(nothing, 3) == micro_batches(nothing, 3, 8) == dealt(nothing, 3, 8, ALONE) == []


@given(LENGTHS, COUNTS)
def test_shares_are_contiguous_cover_everything_once_and_are_even_within_one_row(sizes, count):
    found = shares(sizes, count)
    assert len(found) == count
    assert [place for share in found for place in share] == list(range(len(sizes)))
    even, largest = sum(sizes) / count, max(sizes, default=0)
    assert all(abs(sum(sizes[place] for place in share) - even) <= largest for share in found)


@given(LENGTHS, ROWS, st.one_of(st.just(0), TOKENS), COUNTS)
def test_processes_make_as_many_passes_as_each_other_and_every_row_once(lengths, rows, tokens, count):
    every = passes_of_all(lengths, rows, tokens, count)
    assert len({len(parts) for parts in every}) == 1
    assert sorted(place for parts in every for place in places(parts)) == list(range(len(lengths)))
    for parts in every:
        filled = [len(part) > 0 for part in parts]
        assert filled == sorted(filled, reverse=True)
    # no process makes passes that nobody has rows for
    assert not every[0] or any(len(parts[-1]) for parts in every)


def test_a_process_alone_makes_the_passes_of_the_whole():
    lengths = torch.tensor([3, 9, 4, 8])
    alone = [part.tolist() for part in dealt(lengths, 3, 18, ALONE)]
    assert alone == [part.tolist() for part in micro_batches(lengths, 3, 18)]


def test_fewer_rows_than_processes_leave_some_without():
    every = passes_of_all([6, 6], 1, 0, 4)
    assert [[part.tolist() for part in parts] for parts in every] == [[[]], [[0]], [[]], [[1]]]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("things", [0, 1, 3, 10])
def test_prompts_are_parted_among_processes_in_order(count, things):
    parts = [replace(ALONE, rank=rank, count=count).part(things) for rank in range(count)]
    assert [place for part in parts for place in part] == list(range(things))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
