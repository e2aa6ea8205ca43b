# SPDX-License-Identifier: Apache-2.0
"""Work on frames in threads: decoding and augmenting happen in OpenCV and NumPy, which let go of Python's lock.

Threads rather than processes: they share what was decoded, need no shared memory (Docker gives 64 MB of it), get no
signal of their own, and what one of them raises is raised where its result is awaited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # results that wait to be taken, for each thread


def in_order(do: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """`do` of each item, in the order of the items, made ahead by so many threads; 0: by the caller, when asked.

    Closing the iterator waits for what is in hand and leaves out the rest.

    Raises:
        What `do` raises, in the place of the result.
    """
    if not threads:
        yield from map(do, items)
        return
    pool, coming = ThreadPoolExecutor(threads, "frames"), deque[Future[Result]]()
    try:
        for item in items:
            coming.append(pool.submit(do, item))
            if len(coming) > AHEAD * threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
