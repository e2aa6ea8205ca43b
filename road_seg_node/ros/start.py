# SPDX-License-Identifier: Apache-2.0
"""How the package's programs start: --help and --version, and what keeps ROS 2 from starting, told by its cause."""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from road_seg_node.shipped import PACKAGE, version

LAST_DOMAIN = 232  # above it, DDS's ports are none: DDSI-RTPS specification, 9.6.1.1
SWITCHES = ("RCUTILS_LOGGING_USE_STDOUT", "RCUTILS_LOGGING_BUFFERED_STREAM", "RCUTILS_COLORIZED_OUTPUT")
LOG_FOLDER = "Set ROS_LOG_DIR to a folder that can be written."


class StartError(RuntimeError):
    """ROS 2 cannot start; the message is a sentence with the cause."""


@dataclass(frozen=True)
class About:
    """A program's node, what it does, and its parameters: name, default, description."""

    executable: str
    node: str
    says: str
    parameters: Sequence[tuple[str, object, str]]

    def answer(self, args: list[str] | None) -> str:
        """What to say to --help or --version; "" where neither is asked. args: as main() got them."""
        words = sys.argv[1:] if args is None else args[1:]
        own = words[: words.index("--ros-args")] if "--ros-args" in words else words
        if {"-h", "--help"} & {*own}:
            return self._help()
        return f"{self.executable} {version()}" if "--version" in own else ""

    def _help(self) -> str:
        lines = [
            f"usage: {self.executable} [-h] [--version] [--ros-args [-p PARAMETER:=VALUE] [-r TOPIC:=ANOTHER] ...]",
            "",
            textwrap.fill(self.says, 100),
            "",
            "parameters, each with its default:",
        ]
        for name, default, description in self.parameters:
            shown = str(default).lower() if isinstance(default, bool) else default if default != "" else '""'
            lines.append(f"  {name} ({shown})")
            lines.append(textwrap.fill(description, 100, initial_indent=" " * 6, subsequent_indent=" " * 6))
        return "\n".join(lines)


def refuse(node: str, error: object) -> int:
    """Says why the program does not start, whatever state rclpy's own log is in; the exit code."""
    print(f"[FATAL] [{node}]: {error}", file=sys.stderr, flush=True)
    return 2


def init(args: list[str] | None, **options: Any) -> None:
    """rclpy.init(). Raises StartError."""
    if fault := _fault_of_the_environment():
        raise StartError(fault)
    import rclpy

    try:
        rclpy.init(args=args, **options)
    except Exception as error:
        raise StartError(_cause(str(error))) from error


def failure(error: Exception) -> str:
    """A sentence where a node could not be made for what the middleware or the system said; "" of other errors."""
    if isinstance(error, OSError):
        return f"ROS 2 cannot start: {error}."
    return _cause(str(error)) if type(error).__name__ == "RCLError" else ""  # the class has no public place


def main_of(module: str) -> Callable[[], int]:
    """`main` of that module, imported by its name. Raises StartError where something that it needs is not here."""
    _check_middleware()
    try:
        return importlib.import_module(module).main
    except ImportError as error:
        raise StartError(_missing(error)) from error


def _check_middleware() -> None:
    """Raises StartError where RMW_IMPLEMENTATION is not here: rclpy would end the process as it is imported."""
    name = os.environ.get("RMW_IMPLEMENTATION")
    if not name:
        return
    try:
        ctypes.CDLL(f"lib{name}.so")
    except OSError as error:
        raise StartError(
            f"RMW_IMPLEMENTATION is {name}, which cannot be loaded here ({error}): install "
            f"ros-{os.environ.get('ROS_DISTRO') or 'DISTRO'}-{name.replace('_', '-')}, or unset the variable."
        ) from error


def _fault_of_the_environment() -> str:
    """A sentence about a variable that rclpy would end the process for, or lose the log; "" where there is none."""
    environ = os.environ
    domain = environ.get("ROS_DOMAIN_ID", "")
    number = int(domain) if domain.isascii() and domain.isdigit() else -1 if domain else 0
    if not 0 <= number <= LAST_DOMAIN:
        return f"The environment variable ROS_DOMAIN_ID must be a number from 0 to {LAST_DOMAIN}, not {domain!r}."
    for name in SWITCHES:
        if environ.get(name, "") not in ("", "0", "1"):
            return f"The environment variable {name} must be 0 or 1, not {environ[name]!r}."
    if not any(environ.get(name) for name in ("HOME", "ROS_HOME", "ROS_LOG_DIR")):
        return f"The log has no place: the environment variable HOME is not set. {LOG_FOLDER}"
    return ""


def _cause(said: str) -> str:
    """A sentence of what rclpy says, which names places in its own sources and takes all causes for one."""
    said = said.split(", at /")[0].strip().rstrip(".").removeprefix("failed to initialize rcl: ")
    said = re.sub(r"[. ]*(Error: )?error not set$", "", said)  # rcl knows no cause
    said = re.sub(r": (\d+)$", lambda number: f": {os.strerror(int(number[1]))}", said)
    if "log directory" in said or "logging directory" in said or "opening file" in said:
        return f"The log cannot be written: {said}. {LOG_FOLDER}"
    if said.startswith("['"):
        return f"The command line cannot be used: ROS has no arguments {said}."
    if "parse" in said or "nclave" in said:
        return f"The command line cannot be used: {said}."
    because = f": {said}" if said else ""
    if os.environ.get("ROS_SECURITY_ENABLE") == "true":
        return (
            f"ROS 2 cannot start{because}. ROS_SECURITY_ENABLE is true: are the keys for this program in "
            "ROS_SECURITY_KEYSTORE? (ros2 security create_enclave)"
        )
    return f"ROS 2 cannot start{because}."


def _missing(error: ImportError) -> str:
    """A sentence of an import that failed, with what to install."""
    package = (error.name or "").partition(".")[0]
    if package in ("", PACKAGE):
        return f"A library cannot be loaded: {error}."
    if package == "rclpy" or package.endswith(("_msgs", "_srvs", "_interfaces")):
        return (
            f"ROS 2 is not here: {sys.executable} cannot import {package}. Source a ROS 2 installation "
            "(. /opt/ros/DISTRO/setup.bash), or in the checkout: pip install '.[ros]'."
        )
    install = {"cv2": "opencv-python-headless"}.get(package, package)
    return f"{sys.executable} cannot import {package}: pip install {install}."
