# SPDX-License-Identifier: Apache-2.0
"""Which room imports from which, read from the code; and which may, read from the table in CONTRIBUTING.md.

    python test/rooms.py
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("road_seg_node", "train", "export")
# What comes from elsewhere and not every room may know.
ELSEWHERE = {"torch": "torch", "torchvision": "torch"}
OF_ROS = re.compile(r".*_(msgs|srvs|interfaces)|rclpy|ament_.*|launch|launch_ros|rosbag2_.*|tf2_ros|cv_bridge")

Arrows = dict[str, dict[str, set[str]]]  # room -> what it imports from -> the files that do


def allowed() -> dict[str, set[str]]:
    """By room, what it may import from: rooms, single modules in rooms, "ROS" or "torch"."""
    table, page = {}, (ROOT / "CONTRIBUTING.md").read_text()
    for room, names in re.findall(r"^\| `([\w/]+)` \|.*\|(.*)\|$", page, re.MULTILINE):
        package = room.partition("/")[0]
        table[room] = {
            name if "/" in name or name in ("ROS", "torch") else f"{package}/{name}"
            for name in re.findall(r"`([\w/]+)`", names)
        }
    return table


def arrows() -> Arrows:
    """What each room imports from: other rooms (modules are named where a row of the table does), "ROS", "torch"."""
    table, found = allowed(), defaultdict[str, dict[str, set[str]]](lambda: defaultdict(set))
    named = {name for names in table.values() for name in names}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            file = path.relative_to(ROOT)
            room = room_of(file)
            found[room]
            for module in imports(path):
                top = module.partition(".")[0]
                if top in PACKAGES:
                    target = Path(module.replace(".", "/"))
                    to = str(target) if str(target) in named else room_of(target)
                elif OF_ROS.fullmatch(top):
                    to = "ROS"
                elif top in ELSEWHERE:
                    to = ELSEWHERE[top]
                else:
                    continue
                if to not in (room, package) and not to.startswith(f"{room}/"):
                    found[room][to].add(str(file))
    return found


def room_of(path: Path) -> str:
    """Two names deep: "train/run" of train/run/events.py, "train/preset" of train/preset.py, "train" of itself."""
    parts = path.with_suffix("").parts
    return "/".join(parts[:2]) if parts[-1] != "__init__" or len(parts) > 2 else parts[0]


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it; of `from package import name` what is a module of ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, f"{path} has a relative import"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                place = ROOT / module.replace(".", "/")
                yield module if place.is_dir() or place.with_suffix(".py").is_file() else node.module


def main() -> None:
    for room, targets in arrows().items():
        print(f"{room:28} -> {', '.join(sorted(targets)) or '(nothing)'}")


if __name__ == "__main__":
    main()
