# SPDX-License-Identifier: Apache-2.0
"""What all programs need of ROS; may know rclpy, messages and where shipped files lie."""
