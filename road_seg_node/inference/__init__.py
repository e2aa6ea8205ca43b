# SPDX-License-Identifier: Apache-2.0
"""Images in, road probability out, without ROS: a model file on its provider; knows nothing of the rest."""

from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from road_seg_node.inference.segmenter import RoadSegmenter, road_mask

__all__ = ["ModelFileError", "ProviderError", "RoadSegmenter", "road_mask"]
