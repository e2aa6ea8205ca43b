# SPDX-License-Identifier: Apache-2.0
"""Results in order, errors in their place, and nothing that is awaited for ever."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from train.frames.threads import AHEAD, in_order


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order_and_an_error_in_its_place(threads: int) -> None:
    def inverse(number: int) -> float:
        return 1 / number

    found = in_order(inverse, [4, 2, 1, 0, 8], threads)
    assert [next(found) for _ in range(3)] == [0.25, 0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert list(in_order(inverse, [], threads)) == []


def test_a_slow_first_item_holds_back_the_others_but_not_their_work() -> None:
    """The first waits until the second is done: with one thread, or in the wrong order, this would never end."""
    second = threading.Event()

    def work(number: int) -> int:
        assert number or second.wait(60)
        if number == 1:
            second.set()
        return number

    assert list(in_order(work, range(20), 2)) == list(range(20))


def test_no_more_is_made_ahead_than_a_few_results() -> None:
    asked = []

    def items() -> object:
        for number in range(100):
            asked.append(number)
            yield number

    with closing(in_order(lambda number: number, items(), 2)) as found:  # type: ignore[arg-type]
        assert [next(found) for _ in range(10)] == list(range(10))
    assert len(asked) == 10 + 2 * AHEAD


def test_closed_early_it_leaves_no_thread() -> None:
    before = threading.active_count()
    with closing(in_order(lambda number: number, range(100), 4)) as found:
        next(found)
        assert threading.active_count() > before
    assert threading.active_count() == before
