# SPDX-License-Identifier: Apache-2.0
"""The node as it is, but that it reports on /diagnostics ten times a second, so that tests wait less for it."""

from __future__ import annotations

from road_seg_node.node import node
from road_seg_node.ros import program

if __name__ == "__main__":
    node.REPORT = 0.1
    program.leave(node.main())
