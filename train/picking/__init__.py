# SPDX-License-Identifier: Apache-2.0
"""Frames of a drive that are worth a person's time: how unsure a model is of each, and which to hand over."""
