# SPDX-License-Identifier: Apache-2.0
"""VGG-FCN-8, its loss, its start and its checkpoints; knows none of the other rooms."""
