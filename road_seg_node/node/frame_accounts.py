# SPDX-License-Identifier: Apache-2.0
"""What became of every frame, and how long each stage took: counted by the threads, reported once a second."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum

WINDOW = 300  # frames that the latencies are of: ten seconds at 30 Hz
RECENT = 5  # reports, one a second, that the rates and "recently" are of

STAGES = {
    "transport": "from the image's stamp to its arrival, by the node's clock",
    "wait": "until the worker takes it up",
    "convert": "to BGR, decoding included",
    "infer": "in the network, with what is before and after it in the model file",
    "publish": "making and publishing what is listened to",
    "total": "from the image's stamp to the last publication",
}


class Fate(Enum):
    """What may become of a frame that was received; each has exactly one."""

    ANSWERED = "answered"
    SUPERSEDED = "superseded"  # a newer one came before the worker took it up
    MALFORMED = "malformed"
    DISABLED = "disabled"
    RATE_LIMITED = "rate limited"  # over max_rate
    STALE = "stale"  # older than max_age
    UNWATCHED = "unwatched"  # nobody listened to any output
    FAILED = "inference error"  # inference or publishing failed


@dataclass(frozen=True)
class Report:
    """The accounts at one moment. Rates are in Hz, percentiles in seconds."""

    received: int
    lost: int  # on the way here, as the middleware tells; not among those received
    fates: dict[Fate, int]
    recently_received: int
    recently: dict[Fate, int]
    rate_in: float
    rate_out: float
    percentiles: dict[str, tuple[float, float]]  # of each stage that was timed: p50 and p99
    doubt: float | None  # the median of the frames answered recently, None where there were none
    last_arrival: float | None  # seconds since the last frame came

    @property
    def pending(self) -> int:
        """Frames that wait or are in work, at most two; a frame without any fate would stay in this number."""
        return self.received - sum(self.fates.values())


class FrameAccounts:
    """Takes the same memory for ever. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = self._lost = 0
        self._fates: Counter[Fate] = Counter()
        self._last_arrival: float | None = None
        self._seconds: dict[str, deque[float]] = {stage: deque(maxlen=WINDOW) for stage in STAGES}
        self._doubts: deque[float] = deque(maxlen=WINDOW)
        self._reports: deque[tuple[float, int, Counter[Fate]]] = deque(maxlen=RECENT)

    def receive(self, now: float) -> None:
        """A frame came, at `now` by a clock that never jumps."""
        with self._lock:
            self._received += 1
            self._last_arrival = now

    def lose(self, count: int) -> None:
        """So many frames were lost on the way here."""
        with self._lock:
            self._lost += count

    def settle(self, fate: Fate) -> None:
        with self._lock:
            self._fates[fate] += 1

    def took(self, seconds: dict[str, float]) -> None:
        """What the stages of one answered frame took."""
        with self._lock:
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def doubt(self, value: float) -> None:
        """How little the model's answer to one frame, which is to be settled as answered, is to be trusted."""
        with self._lock:
            self._doubts.append(value)

    def report(self, now: float) -> Report:
        """To be called once a second: rates and recent counts are those since RECENT calls ago."""
        with self._lock:
            received, lost, fates = self._received, self._lost, Counter(self._fates)
            seconds = {stage: sorted(values) for stage, values in self._seconds.items() if values}
            doubts = list(self._doubts)
            since, received_then, fates_then = self._reports[0] if self._reports else (now, 0, Counter())
            self._reports.append((now, received, fates))
            last = self._last_arrival
        span = now - since
        recently = {fate: fates[fate] - fates_then[fate] for fate in Fate}
        doubts = sorted(doubts[-recently[Fate.ANSWERED] :]) if recently[Fate.ANSWERED] else []
        return Report(
            received=received,
            lost=lost,
            fates={fate: fates[fate] for fate in Fate},
            recently_received=received - received_then,
            recently=recently,
            rate_in=(received - received_then) / span if span else 0.0,
            rate_out=recently[Fate.ANSWERED] / span if span else 0.0,
            percentiles={
                stage: (_percentile(values, 0.5), _percentile(values, 0.99)) for stage, values in seconds.items()
            },
            doubt=_percentile(doubts, 0.5) if doubts else None,
            last_arrival=None if last is None else now - last,
        )


def _percentile(ordered: list[float], fraction: float) -> float:
    """The smallest value that at least `fraction` of all do not exceed."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]
