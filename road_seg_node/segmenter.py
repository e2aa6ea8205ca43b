# SPDX-License-Identifier: Apache-2.0
"""Images in, road probability out: the model in ONNX Runtime, without ROS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from road_seg_node import model_file, providers
from road_seg_node.model_file import INPUT_NAME, OUTPUT_NAME, ModelFileError, ModelInfo
from road_seg_node.providers import ProviderError

# Of 255. Between the exporter's fp32 and a provider that computes in less, single pixels at the road's edge
# may move; the picture as a whole may not.
_GOLDEN_MEAN = 2
_GOLDEN_LARGEST = 32


class RoadSegmenter:
    """A model, loaded, warmed up and proved against the answer that its exporter wrote into it.

    Attributes:
        info: what the model file says about itself.
        provider: the one in use, "cuda" or "cpu".
        refused: for each provider that `auto` tried before it, a sentence that says why not.
        golden_difference: largest difference from the golden answer, of 255.
    """

    info: ModelInfo
    provider: str
    refused: list[str]
    golden_difference: int

    def __init__(self, model: str | Path, provider: str = "auto") -> None:
        """Load `model`; `provider` is one of `providers.PROVIDERS`.

        Raises ModelFileError where the file is at fault, ProviderError where the provider (with `auto`: every
        one) cannot do it. The file may be replaced or removed afterwards.
        """
        candidates = providers.candidates(provider)
        data = model_file.read_bytes(model)
        self._where = str(model)
        self.refused = []
        for name in candidates:
            try:
                self._start(name, data)
                return
            except ProviderError as error:
                if name == candidates[-1]:
                    raise
                self.refused.append(str(error))

    def probability(self, bgr: np.ndarray) -> np.ndarray:
        """Return uint8 [H, W], round(255 * P(road)), of `bgr`: uint8 [H, W, 3], any size, contiguous or not.

        Raises ValueError on another dtype or shape, ProviderError where ONNX Runtime fails on this image.
        """
        if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or 0 in bgr.shape:
            raise ValueError(
                f"an image must be uint8 [height, width, 3] with at least one pixel, not {bgr.dtype} {list(bgr.shape)}"
            )
        batch = np.ascontiguousarray(bgr)[np.newaxis]
        height, width = bgr.shape[:2]
        try:
            answer = self._session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise ProviderError(
                f"{self.provider} fails on an image of {width}x{height} with the model {self._where}: "
                f"{providers.first_line(error)}"
            ) from error
        if answer.shape != (1, height, width):
            raise ModelFileError(
                f"the model {self._where} answers an image of {width}x{height} with an array {answer.shape}: "
                "export it again with export/export.py"
            )
        return answer[0]

    def _start(self, name: str, data: bytes) -> None:
        self._session = providers.open_session(name, data, self._where)
        self.info = model_file.check_session(self._session, self._where)
        self.provider = name
        image = model_file.golden_image()
        self.probability(image)  # warm-up: the first run allocates, and may choose its kernels
        answer = self.probability(image)
        difference = np.abs(answer.astype(np.int16) - self.info.golden)
        self.golden_difference = int(difference.max())
        mean = float(difference.mean())
        if mean > _GOLDEN_MEAN or self.golden_difference > _GOLDEN_LARGEST:
            raise ProviderError(
                f"{name} computes another network than the model {self._where} was exported from: its "
                f"golden answer differs by {self.golden_difference} of 255 at most, by {mean:.1f} in the "
                f"mean ({_GOLDEN_LARGEST} and {_GOLDEN_MEAN} are allowed): choose another provider, "
                "or export the model again with export/export.py"
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
