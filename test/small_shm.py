# SPDX-License-Identifier: Apache-2.0
"""Commands in a mount namespace of their own, with as little shared memory as a test asks for."""

from __future__ import annotations

import subprocess

import pytest

MOUNT = 'mount -t tmpfs -o size=$1 tmpfs /dev/shm && shift && exec "$@"'


def with_shared_memory(size: str, command: list[str]) -> list[str]:
    """`command` where /dev/shm holds `size`, such as 64k; skips where no such namespace may be made."""
    for unshare in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        small = [*unshare, "--propagation", "private", "sh", "-c", MOUNT, "sh", size]
        try:
            if subprocess.run([*small, "true"], capture_output=True, timeout=60, check=False).returncode == 0:
                return [*small, *command]
        except FileNotFoundError:
            pass
    pytest.skip("a small /dev/shm needs `unshare --mount`, which is not there or not allowed here")
