# SPDX-License-Identifier: Apache-2.0
"""python -m road_seg_node.demo: see demo.py."""

import sys

from road_seg_node.ros import start

MODULE = "road_seg_node.demo.demo"

try:
    main = start.main_of(MODULE)
except start.StartError as error:
    sys.exit(start.refuse(MODULE, error))
sys.exit(main())
