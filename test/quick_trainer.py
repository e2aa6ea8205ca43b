# SPDX-License-Identifier: Apache-2.0
"""The trainer as it is, but with the graphs of exported_graphs.py: for torchrun, which starts interpreters."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import exported_graphs

    from train import train

    exported_graphs.install()
    train.main()
