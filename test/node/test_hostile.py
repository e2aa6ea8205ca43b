# SPDX-License-Identifier: Apache-2.0
"""What a robot's network may throw at the node: all of it at one running node, or one for each image_transport.

After each the node goes on, has said once what was wrong and counted it, has lost no frame from its accounts, and
answers the next good frame right. docs/hostile_inputs.md tells what it does about each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from hostile_messages import MALFORMED, MALFORMED_COMPRESSED, NO_MESSAGE, ODD
from node_process import REPOSITORY, pixels, scene, wait_until, weighted_probability
from rig import Rig, running
from sensor_msgs.msg import CompressedImage, Image
from storms import STORMS


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    yield from running(tmp_path_factory.mktemp("raw"), "raw")


@pytest.fixture(scope="module")
def compressed_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    yield from running(tmp_path_factory.mktemp("compressed"), "compressed")


def assert_said_and_counted(rig: Rig, msg: Image | CompressedImage | bytes, words: str) -> None:
    said = sum(words in line for line in rig.node.lines)
    rig.planner.counts(lambda counts: counts["malformed"] >= rig.counts["malformed"] + 2, sending=lambda: msg)
    rig.node.wait_for(words)
    counted = rig.assert_goes_on()
    assert counted["malformed"] >= 2
    assert counted["answered"] >= 1
    assert sum(words in line for line in rig.node.lines) == said + 1, rig.node.log


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_image_is_named_once_and_counted(rig: Rig, what: str) -> None:
    assert_said_and_counted(rig, *MALFORMED[what])


@pytest.mark.parametrize("what", MALFORMED_COMPRESSED)
def test_a_malformed_compressed_image_is_named_once_and_counted(compressed_rig: Rig, what: str) -> None:
    assert_said_and_counted(compressed_rig, *MALFORMED_COMPRESSED[what])


@pytest.mark.parametrize("what", ODD)
def test_an_odd_image_is_answered(rig: Rig, what: str) -> None:
    answers = rig.planner.received["probability"]
    answers.clear()

    def answered() -> bool:
        rig.planner.publish(ODD[what])
        return bool(answers)

    wait_until(answered, "an answer")
    np.testing.assert_array_equal(pixels(answers[-1]), weighted_probability(scene()))
    assert rig.assert_goes_on()["malformed"] == 0


@pytest.mark.parametrize("what", NO_MESSAGE)
def test_what_is_no_message_harms_nothing(rig: Rig, what: str) -> None:
    for _ in range(20):
        rig.planner.publish(NO_MESSAGE[what])
    rig.assert_goes_on()


@pytest.mark.parametrize("what", STORMS)
def test_the_node_outlives_it(rig: Rig, what: str) -> None:
    STORMS[what](rig)
    rig.assert_goes_on()


def test_the_table_of_hostile_inputs_is_complete() -> None:
    rows = re.findall(r"^\| ([^|]+?) +\|", (REPOSITORY / "docs" / "hostile_inputs.md").read_text(), re.MULTILINE)
    told = set(rows) - {"input"} - {row for row in rows if set(row) == {"-"}}
    assert told == {*MALFORMED, *MALFORMED_COMPRESSED, *ODD, *NO_MESSAGE, *STORMS}
