# SPDX-License-Identifier: Apache-2.0
"""Images in, road probability out: a model file on the provider that runs it, without ROS."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from road_seg_node.inference import model_file, providers
from road_seg_node.inference.cores import fewer_cores
from road_seg_node.inference.engine import Engine, Size, first_line
from road_seg_node.inference.model_file import ModelFile, ModelFileError, ModelInfo
from road_seg_node.inference.processor import EXACT_BITS, products_overflow
from road_seg_node.inference.providers import ProviderError

# Of 255. Between the exporter's fp32 and a provider that computes in less, single pixels at the road's edge
# may move; the picture as a whole may not.
_GOLDEN_MEAN = 2
_GOLDEN_LARGEST = 32
# Of an int8 file's pixels, the share that may be further off than that: where one of its 256 steps is rounded the other
# way, a pixel at the edge changes sides. The mean still tells another network.
_INT8_SHARE = 0.01

Model: TypeAlias = str | Path | Callable[[str], str | Path]

_SETTLED = 3  # images of one size among the last, after which an engine is made for that size:
_RECENT = 24
_MOST = 4  # engines for one size each: of cameras of different sizes, or one that changes it


def _say_nothing(sentence: str) -> None:
    return None


class RoadSegmenter:
    """A model, loaded, warmed up and proved against the answer that its exporter wrote into it.

    Where that is faster, an engine for the camera's size is made in the background once the size is known; until it
    is ready the first one, which takes every size, goes on answering. Threads may share a segmenter.
    """

    def __init__(
        self,
        model: Model,
        provider: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        tell: Callable[[str], None] = _say_nothing,
    ) -> None:
        """Load `model`: a file's path, or what gives it for each provider that is tried.

        `provider` is one of `providers.PROVIDERS`, `precision` one of `providers.PRECISIONS`; `threads` is how many a
        processor computes with, 0 as many as the library has it, within what this process has the use of; `tell` is
        called with a sentence before something that takes minutes, and where no engine can be made for the camera's
        size. Raises ModelFileError where the file is at fault, ProviderError where the provider (with `auto`: every
        one) cannot do it. The file may be replaced or removed afterwards.
        """
        if precision not in providers.PRECISIONS:
            raise ProviderError(f"there is no precision {precision!r}: choose one of {', '.join(providers.PRECISIONS)}")
        self._provider, self._precision, self._tell = provider, precision, tell
        self._threads = threads or fewer_cores()
        self._loaded = self._load(model)

    @property
    def info(self) -> ModelInfo:
        """What the model file says about itself."""
        return self._loaded.file.info

    @property
    def model_sha256(self) -> str:
        """Of the model file."""
        return self._loaded.file.sha256

    @property
    def provider(self) -> str:
        """The one in use, one of `providers.PROVIDERS` but "auto"."""
        return self._loaded.provider

    @property
    def precision(self) -> str:
        """In which the network is computed: "fp32", "tf32", "bf16", "fp16" or "int8"."""
        return self._loaded.any_size.precision

    @property
    def refused(self) -> list[str]:
        """For each provider that `auto` tried before the one in use, a sentence that says why not."""
        return self._loaded.refused

    @property
    def golden_difference(self) -> int:
        """Largest difference from the golden answer, of 255."""
        return self._loaded.golden_difference

    @property
    def caveat(self) -> str:
        """A sentence where answers may be off on this machine though the golden answer is right; else empty."""
        return self._loaded.caveat

    def load(self, model: Model) -> None:
        """Take another model between two images: it is loaded, warmed up and proved beside the running one.

        Raises what the constructor raises; the old model then goes on.
        """
        self._loaded = self._load(model)

    def prepare(self, height: int, width: int) -> None:
        """Make the engine for images of this size now, rather than in the background once they come."""
        self._loaded.prepare((height, width))

    def probability(self, bgr: np.ndarray) -> np.ndarray:
        """Return uint8 [H, W], round(255 * P(road)), of `bgr`: uint8 [H, W, 3], any size, contiguous or not.

        Raises ValueError on another dtype or shape, ProviderError where the provider fails on this image or
        answers NaN.
        """
        if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or 0 in bgr.shape:
            raise ValueError(
                f"an image must be uint8 [height, width, 3] with at least one pixel, not {bgr.dtype} {list(bgr.shape)}"
            )
        return self._loaded.answer(np.ascontiguousarray(bgr))

    def _load(self, model: Model) -> _Loaded:
        candidates = providers.candidates(self._provider)
        read = lru_cache(model_file.read)
        refused: list[str] = []
        for name in candidates:
            try:
                providers.require(name)
                file = read(model(name) if callable(model) else model)
                return _Loaded(file, name, self._precision, self._threads, refused, self._tell)
            except ProviderError as error:
                if name == candidates[-1]:
                    raise
                refused.append(str(error))
        raise AssertionError("candidates() is never empty")


class _Loaded:
    """One model on one provider: an engine for every size, and later one for the camera's."""

    def __init__(
        self,
        file: ModelFile,
        provider: str,
        precision: str,
        threads: int,
        refused: list[str],
        tell: Callable[[str], None],
    ) -> None:
        self.file, self.provider, self.refused = file, provider, refused
        self._open = partial(providers.open_engine, provider, file, precision=precision, threads=threads, tell=tell)
        self._tell = tell
        self.any_size = self._open(None)
        self._fitted: dict[Size, Engine] = {}  # exchanged as a whole, since other threads read it
        self._recent: deque[Size] = deque(maxlen=_RECENT)  # sizes of the last images
        self._unfit: set[Size] = set()  # sizes for which no engine could be made
        self._fitting = threading.Lock()
        image = model_file.golden_image()
        self._checked(self.any_size, image)  # warm-up: the first run allocates, and may choose its kernels
        difference = _difference(self._checked(self.any_size, image), file.info.golden)
        self.golden_difference, self.caveat = difference.largest, _caveat(file, provider)
        if not difference.small(file.quantized):
            raise ProviderError(
                f"{provider} computes another network than the model {file.where} was exported from: its golden answer "
                f"differs by {difference}: "
                + (self.caveat or "choose another provider, or export the model again with export/export.py")
            )

    def answer(self, image: np.ndarray) -> np.ndarray:
        """Of uint8 [H, W, 3], contiguous."""
        size = image.shape[0], image.shape[1]
        self._recent.append(size)
        engine = self._fitted.get(size)
        if engine is not None:
            return self._checked(engine, image)
        self._notice(size)
        return self._checked(self.any_size, image)

    def prepare(self, size: Size) -> None:
        """Make an engine for `size` now, unless there is one, or none is faster."""
        with self._fitting:
            if self._wants(size):
                self._fit(size)

    def _notice(self, size: Size) -> None:
        """Begin to make an engine for `size` once several of the last images had it; one at a time."""
        if self._recent.count(size) >= _SETTLED and self._wants(size) and not self._fitting.locked():
            # Python waits for it as a program ends: the library that compiles in it aborts a process that ends before.
            threading.Thread(target=self.prepare, args=(size,), name="fit to camera").start()

    def _wants(self, size: Size) -> bool:
        known = size in self._unfit or size in self._fitted
        return self.any_size.follows_size and not known and len(self._in_use()) < _MOST

    def _in_use(self) -> dict[Size, Engine]:
        """The engines for sizes that some of the last images had."""
        recent = set(self._recent)
        return {size: engine for size, engine in self._fitted.items() if size in recent}

    def _fit(self, size: Size) -> None:
        """Make an engine for `size` and use it, if it answers as the one for every size does."""
        try:
            engine = self._open(size)
            golden = model_file.golden_image()
            image = np.tile(golden, (size[0] // golden.shape[0] + 1, size[1] // golden.shape[1] + 1, 1))
            image = np.ascontiguousarray(image[: size[0], : size[1]])
            self._checked(engine, image)  # warm-up
            difference = _difference(self._checked(engine, image), self._checked(self.any_size, image))
        except (ProviderError, ModelFileError) as error:
            reason = str(error)
        else:
            if difference.small(self.file.quantized):
                others = self._fitted if len(self._fitted) < _MOST else self._in_use()
                self._fitted = {**others, size: engine}
                return
            reason = f"it answers otherwise by {difference}"
        self._unfit.add(size)
        self._tell(
            f"no engine of {self.provider} for images of {size[1]}x{size[0]} alone can be used ({reason}), so they "
            "are answered by the slower one for every size"
        )

    def _checked(self, engine: Engine, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        try:
            answer = engine.run(image)
        except ProviderError:
            raise
        except Exception as error:  # the libraries' exceptions have no common base but this
            raise ProviderError(
                f"{self.provider} fails on an image of {width}x{height} with the model {self.file.where}: "
                f"{first_line(error)}"
            ) from error
        if answer.shape != (height, width) or answer.dtype != np.uint8:
            raise ModelFileError(
                f"the model {self.file.where} answers an image of {width}x{height} with an array {answer.dtype} "
                f"{list(answer.shape)}: export it again with export/export.py"
            )
        return answer


@dataclass(frozen=True)
class _Difference:
    """Between two answers, of 255; far: the share of pixels that are more than _GOLDEN_LARGEST apart."""

    largest: int
    mean: float
    far: float

    def small(self, quantized: bool) -> bool:
        return self.mean <= _GOLDEN_MEAN and self.far <= (_INT8_SHARE if quantized else 0)

    def __str__(self) -> str:
        return (
            f"{self.largest} of 255 at most, by {self.mean:.1f} in the mean, and by more than {_GOLDEN_LARGEST} on "
            f"{self.far:.2%} of its pixels ({_GOLDEN_MEAN} in the mean are allowed, and of an int8 file "
            f"{_INT8_SHARE:.0%} of the pixels, else none)"
        )


def _difference(answer: np.ndarray, expected: np.ndarray) -> _Difference:
    apart = np.abs(answer.astype(np.int16) - expected)
    return _Difference(int(apart.max()), float(apart.mean()), float((apart > _GOLDEN_LARGEST).mean()))


def _caveat(file: ModelFile, provider: str) -> str:
    """What RoadSegmenter.caveat says."""
    exact = not file.quantized or file.info.metrics.get("weight_bits") in range(1, EXACT_BITS + 1)
    if exact or provider not in ("openvino", "cpu") or not products_overflow():
        return ""
    return (
        f"the int8 model {file.where} does not say that its weights fit into {EXACT_BITS} bits, and products of all 8 "
        "overflow on this CPU, which has no VNNI: convert it again with export/quantize.py, or use the float file"
    )


def road_mask(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Return uint8 of the shape of `probability`: 255 where probability / 255 >= `threshold`, 0 elsewhere.

    This is KITTI Road's rule, exact also where the threshold is k / 255. `probability` is uint8, `threshold`
    a fraction; raises ValueError where it is not within 0..1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"a threshold must be a number from 0 to 1, not {threshold}")
    first_road = int(np.searchsorted(np.arange(256) / 255, threshold))
    return (probability >= first_road).view(np.uint8) * np.uint8(255)
