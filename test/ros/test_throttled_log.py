# SPDX-License-Identifier: Apache-2.0
"""A warning is given once in a while, and a stream of ever new ones stays short."""

from __future__ import annotations

import pytest

from road_seg_node.ros import throttled_log
from road_seg_node.ros.throttled_log import MOST, ThrottledLog


class Lines(list):
    def warning(self, sentence: str) -> None:
        self.append(sentence)


def test_each_sentence_once_and_few_of_a_kind() -> None:
    lines = Lines()
    log = ThrottledLog(lines)
    for _ in range(100):
        log.warn("size", "It has no pixels.")
        log.warn("step", "Its step is 3.")
    assert lines == ["It has no pixels.", "Its step is 3."]
    for number in range(100):
        log.warn("size", f"It is {number} pixels wide.")
    assert len(lines) == 2 + MOST - 1


def test_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttled_log, "REPEAT", 0.0)
    lines = Lines()
    log = ThrottledLog(lines)
    log.warn("size", "It has no pixels.")
    log.warn("size", "It has no pixels.")
    assert len(lines) == 2


def test_a_figure_that_changes_makes_no_other_sentence() -> None:
    lines = Lines()
    log = ThrottledLog(lines)
    for seconds in range(5, 9):
        log.warn("silence", f"No image has arrived for {seconds} s.", alike="silence")
    assert lines == ["No image has arrived for 5 s."]
