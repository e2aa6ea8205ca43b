# SPDX-License-Identifier: Apache-2.0
"""Road segmentation for ROS 2."""
