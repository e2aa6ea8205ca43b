# SPDX-License-Identifier: Apache-2.0
"""Finds a ROS domain of one's own, where no other robot, demo or test is heard."""

from __future__ import annotations

import random
import socket
from collections.abc import Container

DOMAINS = range(1, 102)  # above 101, DDS's ports are among those that Linux gives to anyone


def discovery_port(domain: int) -> int:
    """The UDP port on which all of a domain find each other (DDSI-RTPS specification, 9.6.1)."""
    return 7400 + 250 * domain


def unused_domain(besides: Container[int] = ()) -> int:
    """A ROS domain, none of `besides`, in which nothing on this machine takes part; 0 where there is none."""
    for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
        if domain in besides:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
            try:
                port.bind(("", discovery_port(domain)))
            except OSError:
                continue
            return domain
    return 0
