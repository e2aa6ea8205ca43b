# SPDX-License-Identifier: Apache-2.0
"""What package.xml, setup.py, the requirements and the shipped files say of each other."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from node_process import any_domain

from road_seg_node.node.parameters import SETTINGS

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = ("launch", "config", "rviz", "models")
LIST_SHIPPED = """
import json
from road_seg_node.shipped import shipped_file
names = "models/road_seg_compact.onnx config/road_seg.yaml config/fastdds_large_images.xml rviz/road_seg.rviz".split()
print(json.dumps([str(shipped_file(name)) for name in names]))
"""


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(REPOSITORY / "package.xml").getroot()


def setup_says(*fields: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *(f"--{field}" for field in fields)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def setup_arguments() -> dict[str, ast.expr]:
    tree = ast.parse((REPOSITORY / "setup.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "setup"]
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def names(requirements: list[str]) -> set[str]:
    """The packages that lines of a requirements file name."""
    lines = (line.partition("#")[0].strip() for line in requirements)
    return {re.split(r"[\[=<>; ]", line)[0].lower().replace("_", "-") for line in lines if line}


def requirements(name: str) -> list[str]:
    return (REPOSITORY / "requirements" / f"{name}.txt").read_text().splitlines()


def test_version_and_licence_are_the_same_everywhere() -> None:
    root = package_xml()
    version = root.findtext("version")
    assert setup_says("name", "version", "license") == [root.findtext("name"), version, root.findtext("license")]
    newest = re.search(r"^(\S+) \(\d{4}-\d\d-\d\d\)$", (REPOSITORY / "CHANGELOG.rst").read_text(), re.MULTILINE)
    assert newest and newest[1] == version
    # The code's, then the weights'.
    licences = {str(entry.text): (REPOSITORY / entry.get("file", "")).read_text() for entry in root.iter("license")}
    assert list(licences) == ["Apache-2.0", "Research use only"]
    assert "Apache License" in licences["Apache-2.0"]
    assert "research" in licences["Research use only"] and "driving" in licences["Research use only"]


def test_package_xml_is_of_an_ament_python_package() -> None:
    root = package_xml()
    assert root.get("format") == "3"
    assert root.findtext("export/build_type") == "ament_python"
    assert (REPOSITORY / "resource" / str(root.findtext("name"))).is_file()


def test_every_ros_package_that_is_imported_is_a_dependency() -> None:
    sources = [*(REPOSITORY / "road_seg_node").rglob("*.py"), *(REPOSITORY / "launch").glob("*.py")]
    imported = set()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
    of_ros = re.compile(r".*_(msgs|srvs|interfaces)|rclpy|ament_.*|launch|launch_ros")
    ros = {name for name in imported if of_ros.fullmatch(name)}
    assert {"rclpy", "sensor_msgs", "launch_ros"} <= ros
    depended = {str(entry.text) for kind in ("depend", "exec_depend") for entry in package_xml().iter(kind)}
    assert ros <= depended


def test_every_shipped_file_is_installed(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "install_data", "--install-dir", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=60,
    )
    share = tmp_path / "share" / "road_seg_node"
    for folder in SHIPPED:
        files = [path for path in (REPOSITORY / folder).iterdir() if path.is_file() and path.name[0] != "."]
        assert files, f"{folder}/ ships nothing"
        for path in files:
            assert (share / folder / path.name).read_bytes() == path.read_bytes(), path
    assert (share / "package.xml").is_file()
    assert (tmp_path / "share/ament_index/resource_index/packages/road_seg_node").is_file()


def test_programs_can_be_called() -> None:
    scripts = ast.literal_eval(setup_arguments()["entry_points"])["console_scripts"]
    programs = dict(script.split(" = ") for script in scripts)
    assert set(programs) == {"road_seg_node", "road_seg_camera", "road_seg_recorder"}
    for target in programs.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_extras_name_what_make_installs() -> None:
    extras = ast.literal_eval(setup_arguments()["extras_require"])
    assert set(extras) == {"cpu", "openvino", "gpu", "ros", "viewer", "train", "test", "dev"}
    assert set(extras.pop("test")) < set(extras["dev"])
    assert set(extras.pop("openvino")) < set(extras["cpu"])
    for extra, packages in extras.items():
        assert sorted(packages) == sorted(line for line in requirements(extra) if line and line[0] != "#")
    assert names(extras["cpu"]) == {"onnxruntime", "openvino"}
    assert names(extras["gpu"]) == {"onnxruntime-gpu"}


def test_pip_brings_what_the_robot_needs() -> None:
    required = ast.literal_eval(setup_arguments()["install_requires"])
    needed = [line for line in requirements("robot") if line and line[0] != "#"]
    assert sorted(required) == sorted(["setuptools", *needed])


def test_the_readme_installs_what_no_debian_package_has() -> None:
    """Beside what rosdep brings, for package.xml says it."""
    (line,) = re.findall(r"^pip install --break-system-packages ([^#]+)", (REPOSITORY / "README.md").read_text(), re.M)
    of_debian = {"numpy", "opencv-python-headless"}
    assert set(line.split()) == (names(requirements("robot")) | names(requirements("cpu"))) - of_debian


@pytest.mark.parametrize("option", ["--prefix", "--target"])
def test_it_works_where_pip_has_installed_it(option: str, tmp_path: Path) -> None:
    """With the libraries that are here: what pip would fetch is what the test before looks at."""
    checkout, place = tmp_path / "checkout", tmp_path / "place"
    checkout.mkdir()
    for name in ("road_seg_node", "resource", *SHIPPED):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, checkout)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", f"{option}={place}"]
    subprocess.run([*command, "."], cwd=checkout, check=True, capture_output=True, timeout=120)
    shutil.rmtree(checkout)
    (package,) = [path for path in place.rglob("road_seg_node") if (path / "shipped.py").is_file()]
    environ = {**os.environ, "PYTHONPATH": str(package.parent), "ROS_DOMAIN_ID": str(any_domain())}
    for program in ("road_seg_node", "road_seg_camera", "road_seg_recorder"):
        said = subprocess.run(
            [place / "bin" / program, "--version"],
            cwd="/",
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert said.stdout == f"{program} {package_xml().findtext('version')}\n"
    listed = subprocess.run(
        [sys.executable, "-c", LIST_SHIPPED], cwd="/", env=environ, capture_output=True, text=True, check=True
    )
    assert all(Path(file).is_file() and str(place) in file for file in json.loads(listed.stdout))
    start = [place / "bin" / "road_seg_node"]
    node = subprocess.Popen(start, cwd="/", env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert any(b"Waiting for images on /image" in line for line in node.stdout or ())
    finally:
        node.terminate()
        node.communicate(timeout=60)


def test_everything_required_is_pinned() -> None:
    lock = requirements("lock")
    for line in lock:
        assert line.startswith("#") or re.match(r"[a-z0-9.-]+==[^=]+$", line.partition(" ;")[0]), line
    for name in ("ros", "robot", "cpu", "gpu", "viewer", "train", "dev"):
        assert names(requirements(name)) <= names(lock)


def test_everything_installed_is_what_the_lock_says() -> None:
    """Also what the requirements bring along: without a pin it would be another next year."""
    if Path(sys.prefix) != REPOSITORY / ".venv" or "AMENT_PREFIX_PATH" in os.environ:
        pytest.skip("this is not the .venv that make prepares where no ROS 2 is sourced")
    pinned = names(requirements("lock")) | {"pip", "setuptools", "wheel"}
    # A ROS 2 wheel brings an .egg-info of its bare name beside its own metadata, ros-NAME.
    installed = {
        distribution.metadata["Name"].lower().replace("_", "-").replace(".", "-")
        for distribution in importlib.metadata.distributions()
        if not str(getattr(distribution, "_path", "")).endswith(".egg-info")
    }
    assert "ros-rclpy" in installed
    assert installed <= pinned


def test_params_file_holds_every_parameter_with_its_default() -> None:
    text = (REPOSITORY / "config" / "road_seg.yaml").read_text()
    assert yaml.safe_load(text)["/**"]["ros__parameters"] == {setting.name: setting.default for setting in SETTINGS}


def test_rviz_asks_for_what_is_published() -> None:
    text = (REPOSITORY / "rviz" / "road_seg.rviz").read_text()
    displays = yaml.safe_load(text)["Visualization Manager"]["Displays"]
    topics = [display["Topic"] for display in displays if "Topic" in display]
    assert {topic["Value"]: topic["Reliability Policy"] for topic in topics} == {
        "/image": "Best Effort",
        **{f"/road_seg/{output}": "Reliable" for output in ("overlay", "mask", "road_grid")},
    }
    assert {topic["Durability Policy"] for topic in topics} == {"Volatile"}


def test_rviz_lays_out_its_window() -> None:
    """What RViz reads without a default of its own is there, and Qt's state holds every panel and picture."""
    root = yaml.safe_load((REPOSITORY / "rviz" / "road_seg.rviz").read_text())
    window = root["Window Geometry"]
    assert (window["Hide Left Dock"], window["Hide Right Dock"]) == (False, False)
    pictures = [each["Name"] for each in root["Visualization Manager"]["Displays"] if each["Class"].endswith("/Image")]
    panels = [panel["Name"] for panel in root["Panels"]]
    state = bytes.fromhex(window["QMainWindow State"])
    for name in [*panels, *pictures]:
        text = name.encode("utf-16-be")
        assert len(text).to_bytes(4, "big") + text in state
        assert window[name] == {"collapsed": False}
    assert len(pictures) == 3


def test_ci_script_can_be_run() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


def test_make_alone_lists_every_target() -> None:
    said = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert phony
    for target in set(phony[1].split()) - {"help"}:
        assert f"make {target} " in said
