# SPDX-License-Identifier: Apache-2.0
"""Why nothing comes from a publisher on this machine: Fast DDS's shared memory that the two do not share.

Both announce it and then use nothing else between them, whether or not either can open the other's files: those in
/dev/shm belong to one user, and a container has a /dev/shm of its own even where it shares the network. What tells is
that a publisher is known (over UDP) but never its node's name, which comes as data do. Among the UDP sockets of the
network each participant has one, with its user, at a port that its file in shared memory is named after.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from rclpy.node import Node
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.utilities import get_rmw_implementation_identifier

from road_seg_node.ros.dds_leftovers import SHARED_MEMORY, is_held
from road_seg_node.ros.dds_profile import LARGE, TRANSPORTS, UDP, variables
from road_seg_node.ros.ros_domain import discovery_port
from road_seg_node.shipped import shipped_file

UNKNOWN = "_NODE_NAME_UNKNOWN_"  # rmw's word for a node of which only an endpoint is known
SOCKETS = Path("/proc/net/udp")
LIMIT = Path("/proc/sys/net/core/rmem_max")
SOCKET_BUFFER = 4194304  # bytes, as the profiles have it
PARTICIPANTS = 120  # of one domain on one machine, by the ports of the DDSI-RTPS specification, 9.6.1


def is_here(endpoint: TopicEndpointInfo, own: Iterable[TopicEndpointInfo]) -> bool:
    """Whether another process's endpoint is on this machine, by Fast DDS's guid: bytes 2 and 3 are the machine's."""
    return bytes(endpoint.endpoint_gid)[2:4] in {bytes(ours.endpoint_gid)[2:4] for ours in own}


def unreachable(node: Node, topic: str) -> str:
    """Why nothing comes from the topic's publishers, as a sentence; "" where it is not for want of shared memory.

    Sure a few seconds after a publisher was found: until then the names of nodes are on their way.
    """
    if not get_rmw_implementation_identifier().startswith("rmw_fastrtps"):
        return ""
    publishers = node.get_publishers_info_by_topic(topic)
    own = node.get_subscriptions_info_by_topic(topic)
    if not any(publisher.node_name == UNKNOWN and is_here(publisher, own) for publisher in publishers):
        return ""
    participants, me = _participants(node), os.geteuid()
    helps = f"What helps: UDP alone for this node, {variables()[0]}={shipped_file(UDP)}"
    if others := sorted({_name(user) for user, _ in participants if user != me}):
        return (
            f"Processes of another user take part here ({', '.join(others)}; this node runs as {_name(me)}), and Fast "
            f"DDS shares memory only between processes of one user. {helps}; or one user for both, in containers one "
            "/dev/shm too (Docker: --ipc=host)."
        )
    if all(shares for _, shares in participants):
        return ""
    return (
        "Its process has another /dev/shm, as in another container that shares the network, so that Fast DDS finds no "
        f"shared memory. {helps}; or one /dev/shm for both (Docker: --ipc=host)."
    )


def against_losses(node: Node, topic: str) -> str:
    """What helps where large images of the topic are lost on the way, as the end of a sentence."""
    own = node.get_subscriptions_info_by_topic(topic)
    elsewhere = not all(is_here(publisher, own) for publisher in node.get_publishers_info_by_topic(topic))
    apart = any(user != os.geteuid() or not shares for user, shares in _participants(node))
    if not elsewhere and not apart and not os.environ.get(TRANSPORTS, "").startswith("UDP"):
        return f"the Fast DDS profile of {LARGE}, in the camera's process too"
    try:
        limit = int(LIMIT.read_text())
    except (OSError, ValueError):  # not told within some containers
        limit = SOCKET_BUFFER
    allowed = "" if limit >= SOCKET_BUFFER else f" (here it is {limit})"
    return (
        f"larger socket buffers, since they come over UDP: the Fast DDS profile of {LARGE if elsewhere else UDP} for "
        f"both sides, and sysctl -w net.core.rmem_max={SOCKET_BUFFER}{allowed} net.core.wmem_max={SOCKET_BUFFER}; or "
        "less to send: image_transport compressed"
    )


def _participants(node: Node) -> list[tuple[int, bool]]:
    """The user of each participant of the domain on this machine, and whether it has shared memory in this /dev/shm."""
    first = discovery_port(node.context.get_domain_id()) + 11
    ports = range(first, first + 2 * PARTICIPANTS, 2)
    try:
        lines = SOCKETS.read_text().splitlines()[1:]
    except OSError:
        return []
    sockets = ((int(fields[1].rpartition(":")[2], 16), int(fields[7])) for fields in map(str.split, lines))
    return [(user, _shares(port)) for port, user in sockets if port in ports]


def _shares(port: int) -> bool:
    return any(is_held(SHARED_MEMORY / f"{name}_port{port}_el") for name in ("fastrtps", "fastdds"))


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a container's
        return str(user)
