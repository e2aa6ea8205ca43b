# SPDX-License-Identifier: Apache-2.0
"""Which frames are taken: doubtful, of all looks, none twice."""

from __future__ import annotations

import numpy as np

from train.picking.choice import choose, ranks


def hashes(number: int) -> np.ndarray:
    return np.random.default_rng(number).random((number, 256)) < 0.5


def test_ranks_leave_out_what_is_not_known_and_share_places() -> None:
    np.testing.assert_array_equal(ranks(np.array([3.0, np.nan, 1.0, 3.0, 2.0])), [1, np.nan, 0, 1, 0.5])
    np.testing.assert_array_equal(ranks(np.array([7.0, 7.0])), [0, 0])
    assert np.isnan(ranks(np.array([np.nan, np.nan]))).all()


def test_near_duplicates_are_taken_once_the_most_doubtful_of_them() -> None:
    bits = hashes(6)
    bits[4] = bits[1]
    bits[5] = bits[1]
    bits[5, :20] ^= True
    doubts = np.array([0.1, 0.5, 0.2, 0.3, 0.9, 0.7])
    assert choose(doubts, np.zeros((6, 4)), bits, 10) == [4, 3, 2, 0]


def test_each_look_gives_its_most_doubtful_frame() -> None:
    looks = np.repeat([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]], 4, axis=0)
    doubts = np.array([0.9, 0.91, 0.92, 0.93, 0.5, 0.51, 0.53, 0.52, 0.4, 0.43, 0.42, 0.41])
    assert choose(doubts, looks, hashes(12), 3) == [3, 6, 9]


def test_what_is_hardly_doubtful_is_left_however_rare_it_looks() -> None:
    doubts = np.append(np.linspace(1, 0.5, 20), 0.1)
    looks = np.append(np.zeros((20, 2)), [[100.0, 100.0]], axis=0)
    assert choose(doubts, looks, hashes(21), 2)[0] == 0
    assert 20 not in choose(doubts, looks, hashes(21), 2)


def test_as_many_are_taken_as_are_wanted_the_same_each_time() -> None:
    rng = np.random.default_rng(3)
    doubts, looks, bits = rng.random(300), rng.integers(0, 255, (300, 192)).astype(np.uint8), hashes(300)
    first = choose(doubts, looks, bits, 40)
    assert len(set(first)) == 40 and first == choose(doubts, looks, bits, 40)
    assert list(doubts[first]) == sorted(doubts[first], reverse=True)
    assert len(choose(doubts, np.zeros((300, 192)), bits, 40)) == 40  # all of one look
