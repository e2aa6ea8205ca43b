# SPDX-License-Identifier: Apache-2.0
"""A domain in which something takes part is never given away as unused."""

from __future__ import annotations

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS's rclpy")

from node_process import any_domain  # noqa: E402
from rclpy.context import Context  # noqa: E402

from road_seg_node.ros.ros_domain import DOMAINS, unused_domain  # noqa: E402


def test_a_domain_with_a_participant_is_not_unused() -> None:
    domain, context = any_domain(), Context()
    others = set(DOMAINS) - {domain}
    assert unused_domain(besides=others) == domain
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("camera", context=context)
    try:
        assert unused_domain(besides=others) == 0
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_tests_that_follow_each_other_get_domains_of_their_own() -> None:
    assert len({any_domain() for _ in range(12)}) == 12
