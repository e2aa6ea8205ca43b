# SPDX-License-Identifier: Apache-2.0
"""python -m road_seg_node.demo: see demo.py."""

import signal
import sys

from road_seg_node.ros import start

signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while ROS 2 is imported; then the demo answers it
try:
    main = start.main_of("road_seg_node.demo.demo")
except start.StartError as error:
    sys.exit(start.refuse("demo", error))
sys.exit(main())
