# SPDX-License-Identifier: Apache-2.0
"""What may be taken of the memory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from train.frames import memory
from train.frames.memory import Room, default_room, free


def test_room_is_taken_once_by_whoever_comes_first() -> None:
    room, taken = Room(1000), []

    def take() -> None:
        for _ in range(100):
            taken.append(room.take(7))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1000 // 7 and room.left == 1000 % 7
    assert room.take(6) and not room.take(1)


def test_the_machine_has_as_much_as_linux_says(monkeypatch: pytest.MonkeyPatch) -> None:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert 0 < free() <= int(total.split()[1]) * 1024
    alone = default_room()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert default_room() < alone / 2


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "3000\n", "memory.current": "1000\n", "memory.stat": "anon 5\ninactive_file 7\n"}, 2007),
        ({"memory.max": "max\n", "memory.current": "1000000\n", "memory.stat": "anon 5\n"}, float("inf")),
        (
            {"memory.limit_in_bytes": "5000\n", "memory.usage_in_bytes": "1000\n", "memory.stat": "inactive_file 1\n"},
            4001,
        ),
        ({}, float("inf")),
    ],
    ids=["version 2", "no limit", "version 1", "not seen"],
)
def test_a_container_has_what_its_control_group_leaves(files: dict[str, str], left: float, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert memory._free_in(tmp_path) == left
