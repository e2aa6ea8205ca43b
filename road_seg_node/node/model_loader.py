# SPDX-License-Identifier: Apache-2.0
"""Loads the model's file: at configure, and again beside the running model when that is asked for or it has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path

from road_seg_node.inference import RoadSegmenter
from road_seg_node.inference.engine import Size
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from road_seg_node.node.model_choice import ModelChoice

LOOK = 0.1  # seconds between two looks at whether the model is still wanted

Signature = tuple[int, int, int]  # of a file on disk: when it was written, its size, its inode


class ModelLoader:
    """The chosen file on one provider, loaded any number of times.

    Loading takes seconds, with TensorRT minutes, so it has a thread of its own. The first time, diagnostics go on and a
    signal can end the node meanwhile; later, the executor's thread goes on fetching images, and the worker's answering
    them with the old model.
    """

    def __init__(self, choice: ModelChoice, provider: str, threads: int, tell: Callable[[str], None]) -> None:
        self.failure = ""  # why the file could not be loaded again, as a sentence; empty once it could
        self._choice, self._provider, self._threads, self._tell = choice, provider, threads, tell
        self._path: Path | None = None  # of the file that was tried last
        self._tried: Signature | None = None
        self._seen: Signature | None = None
        self._busy = False

    def load(self) -> RoadSegmenter:
        """Raises ModelFileError or ProviderError."""
        return RoadSegmenter(self._choose, self._provider, threads=self._threads, tell=self._tell)

    def load_while(self, wanted: Callable[[], bool]) -> RoadSegmenter | None:
        """As load(), in the thread; None as soon as `wanted`, which is asked ten times a second, says no."""
        loaded: Future[RoadSegmenter] = Future()

        def load() -> None:
            try:
                loaded.set_result(self.load())
            except Exception as error:  # noqa: BLE001 - result() raises it
                loaded.set_exception(error)

        threading.Thread(target=load, name="model", daemon=True).start()
        while wanted():
            if wait([loaded], LOOK).done:
                return loaded.result()
        return None

    def reload(self, sizes: Sequence[Size], take: Callable[[RoadSegmenter], None], done: Callable[[], None]) -> bool:
        """Begins to load the file again; False where that is under way already.

        In the thread, `take` gets the new model, ready for images of each of `sizes`, unless it cannot be used:
        then `failure` says why. `done` is called after either.
        """
        if self._busy:
            return False
        self._busy = True
        threading.Thread(target=self._reload, args=(sizes, take, done), name="model", daemon=True).start()
        return True

    def has_changed(self) -> bool:
        """Whether the file on disk is another than the one last tried, and has not changed since the last call."""
        before, self._seen = self._seen, self._signature()
        return self._seen is not None and self._seen == before and self._seen != self._tried

    def _reload(self, sizes: Sequence[Size], take: Callable[[RoadSegmenter], None], done: Callable[[], None]) -> None:
        try:
            segmenter = self.load()
            for size in sizes:  # or the first frames after the exchange would wait for it, or be slower
                segmenter.prepare(*size)
            take(segmenter)
            self.failure = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked must hear of it
            reason = str(error) if isinstance(error, (ModelFileError, ProviderError)) else repr(error)
            self.failure = f"The model could not be loaded again, and the old one goes on: {reason}"
        finally:
            self._busy = False
            done()

    def _choose(self, provider: str) -> Path:
        """Before the file is read: what is written meanwhile is another file."""
        self._path = self._choice.path(provider)
        self._tried = self._signature()
        return self._path

    def _signature(self) -> Signature | None:
        """None where there is no such file."""
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
