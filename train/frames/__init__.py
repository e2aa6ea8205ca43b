# SPDX-License-Identifier: Apache-2.0
"""Data sets and what is made of their frames; may know network, for the size at which it sees them."""
