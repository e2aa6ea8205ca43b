# SPDX-License-Identifier: Apache-2.0
"""The pages name what the code has: parameters, launch arguments, diagnostics, and places that exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from road_seg_node.camera.parameters import CameraValues
from road_seg_node.node.frame_accounts import STAGES, Fate
from road_seg_node.node.parameters import SETTINGS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    str(path.relative_to(REPOSITORY)) for place in ("", "docs", "models") for path in (REPOSITORY / place).glob("*.md")
]


def page(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text()


def rows(text: str, header: str) -> dict[str, list[str]]:
    """The table under that header: each name in a row's first cell, with the cells beside it."""
    lines = text[text.index(header) :].splitlines()[2:]
    table = {}
    for line in lines[: next((number for number, line in enumerate(lines) if not line), None)]:
        first, *others = (cell.strip() for cell in line.strip("|").split(" | "))
        table |= dict.fromkeys(re.findall(r"`(.+?)`", first), others)
    return table


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_repository_lead_somewhere(name: str) -> None:
    path = REPOSITORY / name
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" in link:
            continue
        file, _, heading = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9_ -]", "", text.lower()).replace(" ", "-") for text in headings}
            assert heading in anchors, link


def test_every_page_can_be_reached_from_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert {name for name in PAGES if f"]({name})" not in readme} == {"README.md"}


def test_every_parameter_is_explained() -> None:
    told = rows(page("parameters.md"), "| parameter | default | while running |")
    assert {name: cells[1] for name, cells in told.items()} == {
        setting.name: "yes" if setting.live else "no" for setting in SETTINGS
    }


def test_every_parameter_of_the_camera_is_explained() -> None:
    told = rows(page("cameras_and_recordings.md"), "| parameter |")
    assert set(told) == {field.name for field in fields(CameraValues)}


def test_every_launch_argument_is_explained() -> None:
    code = (REPOSITORY / "launch" / "seg.launch.py").read_text()
    parameters = code[code.index("PARAMETERS = (") : code.index("\n)\n")]
    declared = re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', code) + re.findall(r'^    \("(\w+)"', parameters, re.M)
    assert {"rviz", "model"} <= set(declared)
    assert set(rows(page("launch.md"), "| launch argument |")) == set(declared)


def test_every_figure_of_the_diagnostics_is_explained() -> None:
    told = rows(page("diagnostics.md"), "| key |")
    assert {f"frames {fate.value}" for fate in Fate} <= set(told)
    assert {"doubt", "doubt threshold"} <= set(told)
    stages = "".join(told["STAGE p50 [ms]"])
    assert all(f"`{stage}`" in stages for stage in STAGES)


def test_troubleshooting_names_what_diagnostics_say() -> None:
    text = page("troubleshooting.md")
    named = set(re.findall(r"`frames ([a-z ]+)`", text))
    assert named - {"received", "pending"} <= {fate.value for fate in Fate}
    stages = set(re.findall(r"`([a-z]+) p50`", text))
    assert stages and stages <= set(STAGES)
    parameters = set(re.findall(r"ros2 param [gs]et /road_seg (\w+)", text))
    assert parameters and parameters <= {setting.name for setting in SETTINGS}
