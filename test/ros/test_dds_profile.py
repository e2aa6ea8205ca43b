# SPDX-License-Identifier: Apache-2.0
"""Which profile of Fast DDS is taken, and that what the user has chosen is left alone."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

import pytest
from node_process import REPOSITORY

from road_seg_node.ros.dds_profile import LARGE, SMALL, UDP, VARIABLES, use_shipped_profile, variables
from road_seg_node.shipped import shipped_file

NAMESPACE = {"dds": "http://www.eprosima.com"}
USE = """
import os
from road_seg_node.ros.dds_profile import VARIABLES, use_shipped_profile
print(use_shipped_profile(os.environ))
print(sorted(name for name in VARIABLES if name in os.environ))
print({os.environ.get(name, "").rpartition("/")[2] for name in VARIABLES} - {""})
"""


@pytest.mark.parametrize(
    "chosen",
    [
        {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"},
        {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
        {"FASTRTPS_DEFAULT_PROFILES_FILE": "/home/me/own.xml"},
        {"FASTDDS_DEFAULT_PROFILES_FILE": "/home/me/own.xml"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"},
    ],
)
def test_what_the_user_has_chosen_stays(chosen: dict[str, str]) -> None:
    environ = dict(chosen)
    assert use_shipped_profile(environ) == ""
    assert environ == chosen


def test_an_empty_variable_is_no_choice() -> None:
    """As a shell script leaves it, and ROS 2 takes it."""
    environ = dict.fromkeys((*VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "RMW_IMPLEMENTATION"), "")
    use_shipped_profile(environ)
    assert environ[variables()[0]]


@pytest.mark.parametrize("name", ["DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml"])
def test_a_profile_where_the_program_starts_stays(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast DDS reads it by itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    environ: dict[str, str] = {}
    assert use_shipped_profile(environ) == ""
    assert not environ


@pytest.mark.parametrize(
    ("size", "profile", "words"),
    [("1g", LARGE, ""), ("64m", SMALL, "larger than 8 MB are lost between processes"), ("16m", UDP, "go over UDP")],
)
def test_the_profile_fits_the_shared_memory(size: str, profile: str, words: str) -> None:
    within = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("another /dev/shm cannot be mounted here: run it as root")
    unset = ["env", *(f"--unset={name}" for name in (*VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "RMW_IMPLEMENTATION"))]
    done = subprocess.run(
        [*within, *unset, sys.executable, "-c", USE], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    sentence, names, taken = done.stdout.splitlines()
    jazzy = int(version("rclpy").split(".")[0]) < 9
    assert names == repr(sorted(VARIABLES if jazzy else ["FASTDDS_DEFAULT_PROFILES_FILE"]))
    assert words in sentence and bool(words) == bool(sentence)
    assert taken == repr({Path(profile).name})


def test_the_profiles_differ_in_shared_memory_alone() -> None:
    segments = {}
    rest = set()
    for name in (LARGE, SMALL, UDP):
        root = ElementTree.parse(shipped_file(name)).getroot()
        (transports,) = root.iterfind(".//dds:transport_descriptors", NAMESPACE)
        (used,) = root.iterfind(".//dds:userTransports", NAMESPACE)
        for transport in list(transports):
            if transport.findtext("dds:type", "", NAMESPACE) == "SHM":
                segments[name] = int(transport.findtext("dds:segment_size", "", NAMESPACE))
                transports.remove(transport)
                used.remove(used[0])
            else:
                sizes = [transport.findtext(f"dds:{side}BufferSize", "", NAMESPACE) for side in ("send", "receive")]
                assert sizes == ["4194304"] * 2
        rest.add("".join(ElementTree.tostring(root, encoding="unicode").split()))
    assert segments == {LARGE: 2**25, SMALL: 2**23}
    assert len(rest) == 1
