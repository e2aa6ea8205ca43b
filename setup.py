# SPDX-License-Identifier: Apache-2.0
"""What colcon installs: the Python package, its three programs, and the files under share/road_seg_node."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "road_seg_node"


def shared(folder: str, *patterns: str) -> tuple[str, list[str]]:
    """The files of a folder that match, as an entry of data_files."""
    found = (path for pattern in patterns for path in Path(folder).glob(pattern))
    files = sorted(str(path) for path in found if not path.name.startswith("."))
    return f"share/{PACKAGE}/{folder}", files


setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        shared("launch", "*.launch.py"),
        shared("config", "*.yaml", "*.xml"),
        shared("rviz", "*.rviz"),
        shared("models", "*.onnx", "*.md", "LICENSE"),
    ],
    python_requires=">=3.10",
    install_requires=[
        "setuptools",
        "numpy>=1.23",
        "opencv-python-headless>=4.8",
        "rosbags>=0.11",
    ],
    # One of cpu and gpu, never both: the two builds of ONNX Runtime overwrite each other's files.
    extras_require={
        "cpu": [
            "onnxruntime>=1.23",
            "openvino>=2025.0 ; platform_machine == 'x86_64' or platform_machine == 'aarch64'",
        ],
        "openvino": ["openvino>=2025.0 ; platform_machine == 'x86_64' or platform_machine == 'aarch64'"],
        # ROS 2 Jazzy, where none is sourced.
        "ros": [
            "ros-rclpy[fastrtps]==7.1.6",
            "ros-diagnostic-msgs",
            "ros-geometry-msgs",
            "ros-lifecycle-msgs",
            "ros-nav-msgs",
            "ros-rcl-interfaces",
            "ros-sensor-msgs",
            "ros-std-msgs",
            "ros-std-srvs",
        ],
        "gpu": ["onnxruntime-gpu[cuda,cudnn]>=1.23"],
        "viewer": ["rerun-sdk ; python_version >= '3.11'"],
        "train": [
            "matplotlib",
            "onnx>=1.20",
            "onnxscript==0.7.2",
            "pillow",
            "pyyaml",
            "tensorboard",
            "torch==2.13.0",
            "tqdm",
        ],
        "test": ["pytest"],  # where `colcon test` looks for what runs the tests
        "dev": [
            "codespell",
            "cyclonedds ; platform_machine == 'x86_64' and python_version < '3.14'",
            "mypy",
            "pytest",
            "ruff",
        ],
    },
    zip_safe=True,
    author="The road_seg_node authors",
    maintainer="The road_seg_node authors",
    maintainer_email="road-seg-node@example.com",
    description="Finds the road in camera images: a ROS 2 node that runs a segmentation network with ONNX Runtime.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "road_seg_node = road_seg_node.programs:node",
            "road_seg_camera = road_seg_node.programs:camera",
            "road_seg_recorder = road_seg_node.programs:recorder",
        ],
    },
)
