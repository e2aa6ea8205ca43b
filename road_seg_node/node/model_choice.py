# SPDX-License-Identifier: Apache-2.0
"""Which model file runs: the one that the parameter `model` names, or the shipped one that suits the provider."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from road_seg_node.inference import ModelFileError
from road_seg_node.inference.providers import ON_GPU
from road_seg_node.shipped import COMPACT, FULL, shipped_file

SHIPPED = {"compact": COMPACT, "full": FULL}


@dataclass(frozen=True)
class ModelChoice:
    """asked: "compact" or "full", the shipped models; the path of a file; or "" for what suits the provider."""

    asked: str

    def path(self, provider: str) -> Path:
        """The file to run on `provider`; raises ModelFileError where a shipped one is asked for and is not here."""
        if self.asked not in ("", *SHIPPED):
            path = Path(os.path.expanduser(self.asked))
            if len(path.parts) == 1 and not path.suffix and not path.exists():  # a mistyped name
                raise ModelFileError(
                    f"there is no model {self.asked!r}: the shipped ones are {' and '.join(SHIPPED)}; for one of your "
                    "own give the path of its file, which ends in .onnx"
                )
            return path
        path = shipped_file(SHIPPED[self.asked or self._suiting(provider)])
        if not path.is_file():
            raise ModelFileError(
                f"the {path.stem} model does not ship with this installation ({path} does not exist): set the "
                "parameter model to the path of a model file, or to another shipped one"
            )
        return path

    def reason(self, provider: str) -> str:
        """Why `provider` runs that file, such as "compact, since cpu runs on the CPU"."""
        if self.asked in SHIPPED:
            return f"{self.asked}, as the parameter model says"
        if self.asked:
            return "the file that the parameter model names"
        if provider not in ON_GPU:
            return f"compact, since {provider} runs on the CPU"
        if self._suiting(provider) == "full":
            return f"full, since {provider} computes on a GPU"
        return f"compact, since the full one, for {provider}, does not ship with this installation"

    def _suiting(self, provider: str) -> str:
        return "full" if provider in ON_GPU and shipped_file(FULL).is_file() else "compact"
