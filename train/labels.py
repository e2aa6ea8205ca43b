# SPDX-License-Identifier: Apache-2.0
"""What the label of a pixel says: 0 is not road, 1 is road."""

IGNORE = 255  # there is no valid ground truth
