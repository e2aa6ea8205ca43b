# SPDX-License-Identifier: Apache-2.0
"""The programs for training and export end without a traceback wherever a signal comes, and leave nothing half made."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300  # seconds; far more than any of this needs
TRAIN, EXPORT = ("train", "evaluate", "data_report", "harvest"), ("export", "quantize", "doubt")
PROGRAMS = [*(f"train/{name}.py" for name in TRAIN), *(f"export/{name}.py" for name in EXPORT)]

# The program as a user starts it, but for what stands for the user's finger: a signal as that module is imported.
IMPORTING = """
import os, runpy, signal, sys
class Finger:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finger())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
WORKING = """
import os, signal, sys, threading, time
from train import interruption
with interruption.told("program.py", "nothing was written"):
    try:
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGINT)  # the second one, while it tidies up
        print("tidied up", flush=True)
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_while_libraries_are_imported_ends_without_a_traceback(program: str) -> None:
    done = run("-c", IMPORTING, program)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_program_that_is_stopped_says_so_and_ends_as_a_shell_expects(name: str) -> None:
    done = run("-c", WORKING, name)
    assert done.stdout == "tidied up\n"
    assert done.stderr == f"program.py: stopped by {name}; nothing was written.\n"
    assert done.returncode == 128 + signal.Signals[name]
