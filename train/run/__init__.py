# SPDX-License-Identifier: Apache-2.0
"""One run, from its first step to its last; may know preset, score, frames and network."""
