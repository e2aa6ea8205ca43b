# SPDX-License-Identifier: Apache-2.0
"""Pictures of a road, and the exact truth of them, from a seed; knows nothing of the rest, nor of ROS."""
