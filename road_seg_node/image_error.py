# SPDX-License-Identifier: Apache-2.0
"""What is raised for a message that is no image."""

from __future__ import annotations


class ImageError(ValueError):
    """A message that is no image; `reason` names the kind of fault, so that each is reported once in a while."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
