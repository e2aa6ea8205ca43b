# SPDX-License-Identifier: Apache-2.0
"""The demo's camera and node: the package's programs in processes of their own."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


class DemoError(RuntimeError):
    """The demo cannot go on; the message is a sentence, with what the failing process last logged."""


class Child:
    """One of the package's programs in a process of its own, with its output in a file."""

    def __init__(self, name: str, log: Path, parameters: dict[str, object]) -> None:
        self.name, self._log = name, log
        command = [sys.executable, "-m", f"road_seg_node.{name}.{name}"]
        if parameters:
            command.append("--ros-args")
        for key, value in parameters.items():
            command += ["-p", f"{key}:={json.dumps(value)}"]  # JSON is YAML, and keeps a path of digits a text
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        prctl = ctypes.CDLL(None).prctl
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is for the demo, which ends its children itself
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # even where the demo is killed
            )

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def last_words(self) -> str:
        """The end of what the process logged."""
        lines = self._log.read_text(errors="replace").splitlines()[-8:]
        return "\n".join(f"  {self.name}: {line}" for line in lines or ["(nothing)"])

    def check(self) -> None:
        """Raises DemoError when the process has ended with an error."""
        if self.exit_code not in (None, 0):
            raise DemoError(f"The {self.name} ended early, with status {self.exit_code}:\n{self.last_words()}")

    def end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.exit_code is not None:
                return
            self._process.send_signal(number)
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                continue
