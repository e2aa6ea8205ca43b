# SPDX-License-Identifier: Apache-2.0
"""The package at work, on one machine; may know everything below."""
