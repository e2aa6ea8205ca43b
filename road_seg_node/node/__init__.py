# SPDX-License-Identifier: Apache-2.0
"""The node road_seg: images in, masks out; may know ros, inference, ground and overlay."""
