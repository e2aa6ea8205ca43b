# SPDX-License-Identifier: Apache-2.0
"""What a byte says of a pixel: labels are 0, not road, or 1, road; targets grade from 0 to CERTAIN, surely road."""

IGNORE = 255  # in both: there is no valid ground truth, and the pixel counts nowhere
CERTAIN = 254
