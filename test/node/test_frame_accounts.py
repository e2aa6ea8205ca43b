# SPDX-License-Identifier: Apache-2.0
"""The accounts add up, and take the same memory however long they are kept."""

from __future__ import annotations

import threading

import pytest

from road_seg_node.node.frame_accounts import RECENT, STAGES, WINDOW, Fate, FrameAccounts


def test_every_frame_is_pending_until_it_has_its_fate() -> None:
    accounts = FrameAccounts()
    for now in range(10):
        accounts.receive(float(now))
    for fate in Fate:
        accounts.settle(fate)
    report = accounts.report(10.0)
    assert report.received == 10
    assert report.fates == dict.fromkeys(Fate, 1)
    assert report.pending == 10 - len(Fate)
    assert report.last_arrival == 1.0


def test_rates_and_recent_counts_are_those_of_the_last_reports() -> None:
    accounts = FrameAccounts()
    for second in range(20):
        for _ in range(30 if second < 10 else 6):
            accounts.receive(second + 0.5)
            accounts.settle(Fate.ANSWERED if second < 15 else Fate.STALE)
        report = accounts.report(second + 1.0)
    assert report.rate_in == 6.0
    assert report.recently_received == 6 * RECENT
    assert report.recently[Fate.STALE] == 6 * RECENT
    assert report.rate_out == 0.0
    assert report.fates[Fate.ANSWERED] == 10 * 30 + 5 * 6


def test_percentiles_are_of_the_last_frames() -> None:
    accounts = FrameAccounts()
    for _ in range(WINDOW):
        accounts.took({"infer": 9.0})
    for value in range(1, WINDOW + 1):
        accounts.took({"infer": value / 100})
    p50, p99 = accounts.report(0.0).percentiles["infer"]
    assert p50 == pytest.approx(WINDOW / 200)
    assert p99 == pytest.approx(0.99 * WINDOW / 100)
    assert set(accounts.report(0.0).percentiles) == {"infer"} < set(STAGES)


def test_doubt_is_the_median_of_the_frames_answered_recently() -> None:
    accounts = FrameAccounts()
    assert accounts.report(0.0).doubt is None
    for second in range(20):
        for frame in range(9):
            accounts.doubt(0.1 if second < 10 else frame / 10)
            accounts.settle(Fate.ANSWERED)
        report = accounts.report(second + 1.0)
        if second == 9:
            assert report.doubt == 0.1
    assert report.doubt == 0.4
    for second in range(20, 20 + RECENT):
        accounts.settle(Fate.UNWATCHED)
        report = accounts.report(second + 1.0)
    assert report.doubt is None, "nothing was answered, so nothing is known of what is seen now"


def test_an_hour_takes_no_more_memory_than_a_minute() -> None:
    accounts = FrameAccounts()
    for second in range(100):
        for _ in range(100):
            accounts.took(dict.fromkeys(STAGES, 0.001))
            accounts.doubt(0.1)
        accounts.report(float(second))
    kept = sum(len(values) for values in accounts._seconds.values()) + len(accounts._doubts) + len(accounts._reports)
    assert kept == WINDOW * (len(STAGES) + 1) + RECENT


def test_threads_lose_no_count() -> None:
    accounts = FrameAccounts()

    def count() -> None:
        for _ in range(5000):
            accounts.receive(0.0)
            accounts.settle(Fate.ANSWERED)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = accounts.report(1.0)
    assert (report.received, report.fates[Fate.ANSWERED], report.pending) == (20000, 20000, 0)
