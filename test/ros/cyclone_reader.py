# SPDX-License-Identifier: Apache-2.0
"""Reads the node's pictures by Cyclone DDS: cyclone_reader.py DOMAIN FOLDER OUTPUT ..., until its input is closed.

What it reads becomes FOLDER/OUTPUT-SECONDS.npz. The types are sensor_msgs' and std_msgs', as ROS maps them to DDS.
"""

import select
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import int32, sequence, uint8, uint32
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration


@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@dataclass
class Image(IdlStruct, typename="sensor_msgs::msg::dds_::Image_"):
    header: Header
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: sequence[uint8]


def write(image: Image, file: Path) -> None:
    beside = file.with_suffix(".part.npz")
    np.savez(
        beside,
        sec=image.header.stamp.sec,
        nanosec=image.header.stamp.nanosec,
        frame_id=image.header.frame_id,
        encoding=image.encoding,
        shape=[image.height, image.width, image.step, image.is_bigendian],
        data=np.frombuffer(bytes(image.data), np.uint8),
    )
    beside.replace(file)


def main() -> None:
    participant = DomainParticipant(int(sys.argv[1]))
    folder, outputs = Path(sys.argv[2]), sys.argv[3:]
    qos = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepLast(10))
    readers = {
        output: DataReader(participant, Topic(participant, f"rt/road_seg/{output}", Image, qos=qos), qos=qos)
        for output in outputs
    }
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        for output, reader in readers.items():
            for image in reader.take(10):
                write(image, folder / f"{output}-{image.header.stamp.sec}.npz")


if __name__ == "__main__":
    main()
