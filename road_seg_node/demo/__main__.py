# SPDX-License-Identifier: Apache-2.0
"""python -m road_seg_node.demo: see demo.py."""

import sys

from road_seg_node.demo.demo import main

sys.exit(main())
