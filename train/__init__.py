# SPDX-License-Identifier: Apache-2.0
"""Offline training of VGG-FCN-8 on road frames; needs PyTorch, which the robot does not."""
