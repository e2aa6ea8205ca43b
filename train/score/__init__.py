# SPDX-License-Identifier: Apache-2.0
"""KITTI's metric, reports and submissions; may know frames and network."""
