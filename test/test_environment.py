# SPDX-License-Identifier: Apache-2.0
"""What make does with .venv, and what it leaves alone: a small checkout, with make, venv and pip as they are."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
NOBODY = 65534
# What has to be importable once everything is installed.
MODULES = ("rclpy", "sensor_msgs", "std_srvs", "diagnostic_msgs", "nav_msgs", "numpy", "cv2", "onnxruntime")


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A checkout whose requirements are one small package; it lies where every user can read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(REPOSITORY / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "Makefile", folder)
        (folder / "requirements").mkdir()
        for file in (REPOSITORY / "requirements").glob("*.txt"):
            (folder / "requirements" / file.name).write_text("")
        (folder / "requirements" / "robot.txt").write_text("small==1.0\n")
        (folder / "wheels").mkdir()
        write_wheel(folder / "wheels" / "small-1.0-py3-none-any.whl")
        yield folder


def write_wheel(path: Path) -> None:
    info = "small-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for module in MODULES:
            wheel.writestr(f"{module}.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "".join(f"{module}.py,,\n" for module in MODULES))


def make(checkout: Path, *arguments: str, within: tuple[str, ...] = (), **environ: str) -> tuple[int, str]:
    """make without a ROS 2 sourced, and with the one package in place of PyPI; exit status and what was said."""
    outer = ("PIP_", "ROS_", "AMENT_", "MAKE", "MFLAGS")  # the last two of the make that runs the tests
    clean = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(checkout / "wheels")}
    done = subprocess.run(
        [*within, "make", *(arguments or ("setup",)), f"PYTHON={python(within)}"],
        cwd=checkout,
        env={**clean, **pip, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stdout
    return done.returncode, done.stdout


def python(within: tuple[str, ...]) -> str:
    """A Python that can be run so: this one may lie in a home that another user cannot read."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        # Through a shell: setpriv itself still has root's rights as it starts what it is given.
        done = subprocess.run([*within, "sh", "-c", f"{candidate} -V"], capture_output=True, check=False, cwd="/")
        if done.returncode == 0:
            return candidate
    pytest.skip("no Python here can be run by another user")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def given_venv(checkout: Path, kind: str) -> Path:
    """A .venv that make did not make; returns the folder with what is not to be touched."""
    venv = checkout / ".venv"
    if kind == "a file":
        venv.write_text("thesis")
        return checkout
    folder = checkout / "elsewhere" if kind == "a link" else venv
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    (folder / "thesis.txt").write_text("of years")
    if kind == "a link":
        (folder / "road_seg.json").write_text("{}")  # another checkout's
        venv.symlink_to(folder)
    elif kind == "another user's":
        (folder / "road_seg.json").write_text("{}")
        os.chown(folder, NOBODY, NOBODY)
    return folder


@pytest.mark.parametrize("target", ["setup", "demo", "clean"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("a venv", ".venv was not made by make, so make leaves it alone"),
        ("a file", ".venv is not a folder"),
        ("a link", ".venv is a link to"),
        ("another user's", ".venv belongs to another user, nobody, so make does not change it"),
    ],
)
def test_a_venv_that_make_did_not_make_stays(checkout: Path, kind: str, words: str, target: str) -> None:
    if kind == "another user's" and os.geteuid():
        pytest.skip("only root can give a folder to another user")
    folder = given_venv(checkout, kind)
    before = contents(folder)
    status, said = make(checkout, target)
    assert status != 0
    assert words in said
    assert {name: text for name, text in contents(folder).items() if "__pycache__" not in name} == before


@pytest.mark.parametrize("made", [True, False])
def test_another_user_is_told_what_is_not_theirs(checkout: Path, made: bool) -> None:
    """A .venv that root has made, as with sudo make, or a checkout in which only root may write."""
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("only root can be another user here, with setpriv of util-linux")
    if made:
        (checkout / ".venv").mkdir()
        (checkout / ".venv" / "road_seg.json").write_text("{}")
        checkout.chmod(0o777)
    nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    status, said = make(checkout, within=nobody)
    assert status != 0
    assert (".venv belongs to another user, root" if made else f"cannot write in {checkout}: Permission denied") in said


def test_it_installs_into_venv_whatever_pip_is_told_to_do(checkout: Path) -> None:
    """A .venv whose making was broken off is made anew; nothing gets into the user's own places."""
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "road_seg.json").write_text("{}")
    (checkout / ".venv" / "left").touch()
    home = checkout / "home"
    home.mkdir()
    settings = "".join(f"{name} = {home}/{name}\n" for name in ("target", "prefix", "root"))
    (checkout / "pip.conf").write_text(f"[install]\n{settings}")
    own = {"HOME": str(home), "PIP_CONFIG_FILE": str(checkout / "pip.conf"), "PIP_USER": "1", "PIP_DRY_RUN": "1"}
    status, said = make(checkout, **own)
    assert status == 0, said
    assert not (checkout / ".venv" / "left").exists()
    assert len(list((checkout / ".venv").glob("lib/python*/site-packages/rclpy.py"))) == 1
    assert not {"target", "prefix", "root", ".local"} & {path.name for path in home.iterdir()}
    assert json.loads((checkout / ".venv" / "road_seg.json").read_text())["everything"]
    assert make(checkout, **own) == (0, "")
    assert make(checkout, "clean")[0] == 0
    assert not (checkout / ".venv").exists()


def test_the_view_is_installed_once_it_is_asked_for(checkout: Path) -> None:
    """And stays; the demo itself is not in this checkout, so that it ends with an error of Python's."""

    def installed() -> bool:
        return "rerun-sdk" in (checkout / ".venv" / "requirements.txt").read_text()

    (checkout / "requirements" / "viewer.txt").write_text("rerun-sdk ; python_version < '3'\n")
    for options, wanted in (([], False), (["VIEW=0"], False), (["VIEW=1"], True), ([], True)):
        said = make(checkout, "demo", *options)[1]
        assert "No module named 'road_seg_node'" in said
        assert installed() == wanted
    assert "[environment]" not in said


def test_clean_removes_what_was_made_here_and_no_more(checkout: Path) -> None:
    made = (
        "demo_output/node.log demo_output/contact_sheet.png demo_output/overlay.mp4 build/COLCON_IGNORE "
        "build/road_seg_node/x install/COLCON_IGNORE road_seg_node.egg-info/PKG-INFO .pytest_cache/CACHEDIR.TAG "
        "train/score/__pycache__/x.pyc"
    ).split()
    own = "demo_output/notes.txt log/of_my_drives.txt .my_cache/photo.jpg data/__pycache__/x.pyc train/mine.py".split()
    for name in (*made, *own):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    status, said = make(checkout, "clean")
    assert status == 0
    assert "demo_output stays: there is more in it than was made here" in said
    assert not [name for name in made if (checkout / name).exists()]
    assert all((checkout / name).exists() for name in own)
    (checkout / "demo_output" / "notes.txt").unlink()
    assert make(checkout, "clean") == (0, "")
    assert not (checkout / "demo_output").exists()


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("everything", [False, True])
def test_one_build_of_onnxruntime_and_no_torch_on_the_robot(
    gpu: bool, everything: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    environment = importlib.import_module("environment")
    note = {"kind": {"ros": "", "gpu": gpu}, "everything": everything, "viewer": everything}
    wanted, _ = environment.requirements_and_constraints(note)
    names = {environment.name_of(line).partition("[")[0] for line in wanted}
    assert names & {"onnxruntime", "onnxruntime-gpu"} == {"onnxruntime-gpu" if gpu else "onnxruntime"}
    assert ("torch" in names) == ("pytest" in names) == everything
    assert "ros-rclpy" in names
