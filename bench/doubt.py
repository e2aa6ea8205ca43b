# SPDX-License-Identifier: Apache-2.0
"""How well doubt tells scenes that a model knows from others, and good masks from bad; docs/diagnostics.md has a table.

.venv/bin/python bench/doubt.py --known DATA [DATA ...] [--unknown DATA ...] [--model FILE.onnx]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from road_seg_node.inference import ModelFileError, ProviderError, RoadSegmenter, road_mask
from road_seg_node.inference.doubt import doubt
from road_seg_node.listing import PICTURES, listed
from road_seg_node.shipped import COMPACT, shipped_file
from train.frames import picture_file, sources
from train.frames.data_error import DataError
from train.frames.frame import Frame
from train.labels import IGNORE

GOOD = 0.8  # road IoU of one frame
SPOILED = 24  # known frames that each corruption is tried on, evenly spaced
FOG = 205  # its grey
SIZES = ((375, 1242), (1080, 1920))  # that the time is measured on: height, width


@dataclass(frozen=True)
class Answer:
    """doubt: of one frame. iou: of its mask against the ground truth, NaN where there is none, or no road."""

    doubt: float
    iou: float


def noise(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.clip(np.random.default_rng(0).normal(image, sigma), 0, 255).astype(np.uint8)


def fog(image: np.ndarray, density: float) -> np.ndarray:
    """Of even density on flat ground, with the horizon at 0.4 of the height (Koschmieder's law)."""
    below = np.linspace(0, 1, len(image)) - 0.4
    seen = np.exp(-density / np.maximum(below, 0.02))[:, None, None]
    return (image * seen + FOG * (1 - seen)).astype(np.uint8)


def blurred(image: np.ndarray, share: float) -> np.ndarray:
    """By a Gaussian whose sigma is that share of the width."""
    return cv2.GaussianBlur(image, (0, 0), share * image.shape[1])


def half_covered(image: np.ndarray) -> np.ndarray:
    """Something dark on the lens, over the road."""
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.float32)
    cv2.circle(cover, (width // 2, int(0.65 * height)), int(0.45 * min(height, width)), 1.0, -1)
    cover = cv2.GaussianBlur(cover, (0, 0), width / 60)[..., None]
    return (image * (1 - cover) + 30 * cover).astype(np.uint8)


def drops(image: np.ndarray) -> np.ndarray:
    """Forty drops of water on the lens."""
    height, width = image.shape[:2]
    rng, wet = np.random.default_rng(0), np.zeros((height, width), np.float32)
    for _ in range(40):
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(wet, centre, int(rng.uniform(0.02, 0.07) * width), 1.0, -1)
    wet = cv2.GaussianBlur(wet, (0, 0), width / 200)[..., None]
    return (image * (1 - wet) + blurred(image, 1 / 30) * wet).astype(np.uint8)


Spoil = Callable[[np.ndarray], np.ndarray]
TURNED: dict[str, Spoil] = {
    "upside down": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
    "on its side": lambda image: np.ascontiguousarray(np.rot90(image)),
}
SPOILT: dict[str, Spoil] = {
    "an eighth of the light": lambda image: noise(image / 8, 2),
    "a 25th of the light": lambda image: noise(image / 25, 2),
    "four times the light": lambda image: np.clip(image.astype(np.int32) * 4, 0, 255).astype(np.uint8),
    "fog": lambda image: fog(image, 0.25),
    "dense fog": lambda image: fog(image, 0.8),
    "out of focus": lambda image: blurred(image, 1 / 40),
    "lens covered": lambda image: (0.4 * blurred(image, 1 / 8)).astype(np.uint8),
    "lens half covered": half_covered,
    "drops on the lens": drops,
    "strong noise": lambda image: noise(image, 60),
}


def uniform() -> Iterator[np.ndarray]:
    """Pictures of one grey, from black to white, and of noise alone."""
    for size in ((480, 640), (375, 1242)):
        for grey in (0, 30, 60, 90, 128, 180, 220, 255):
            picture = np.full((*size, 3), grey, np.uint8)
            yield picture
            yield noise(picture, 20)


def auroc(known: Sequence[float], unknown: Sequence[float]) -> float:
    """The probability that one of `unknown` is greater than one of `known`, equal ones counted half."""
    below, upto = (np.searchsorted(np.sort(known), unknown, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(known))


def answer(segmenter: RoadSegmenter, image: np.ndarray, labels: np.ndarray | None = None) -> Answer:
    """Labels as of Frame.read."""
    probability = segmenter.probability(image)
    iou = float("nan")
    if labels is not None:
        valid, truth = labels != IGNORE, labels == 1
        mask = road_mask(probability, segmenter.info.threshold) > 0
        either = int(((mask | truth) & valid).sum())
        if truth.any():
            iou = int((mask & truth).sum()) / either
    return Answer(doubt(probability), iou)


def of_pictures(segmenter: RoadSegmenter, folder: Path) -> list[Answer]:
    try:
        files = listed(folder, PICTURES)
    except OSError as error:
        raise DataError(f"--pictures {folder} cannot be read: {error.strerror or error}.") from None
    return [answer(segmenter, picture_file.read(path)) for path in files]


def measured(segmenter: RoadSegmenter, options: argparse.Namespace) -> Iterator[tuple[str, bool, list[Answer]]]:
    """(what is seen, whether the model knows it, answers), row by row."""
    frames: list[Frame] = []
    for words, known in ((options.known, True), (options.unknown, False)):
        for source in sources.sources_of(words):
            found, validation = source.find(unlabelled=True)
            chosen = validation or found
            frames += chosen if known else []
            answers = [answer(segmenter, *frame.read(strict=False)) for frame in chosen]
            yield f"{source.place.parent.name}/{source.place.name}", known, answers
    step = max(1, len(frames) // SPOILED)
    pairs = [frame.read(strict=False) for frame in frames[::step]]
    for name, spoil in TURNED.items():
        yield name, False, [answer(segmenter, spoil(image)) for image, _ in pairs]
    for name, spoil in SPOILT.items():
        yield name, False, [answer(segmenter, spoil(image), labels) for image, labels in pairs]
    yield "one grey, or noise alone", False, [answer(segmenter, picture) for picture in uniform()]
    for folder in options.pictures:
        yield folder.name, False, of_pictures(segmenter, folder)


def table(rows: list[tuple[str, bool, list[Answer]]], threshold: float | None) -> Iterator[str]:
    """Each row of what is known is compared with the others of it; a bad mask is one whose road IoU is below GOOD."""
    yield "| what is seen | frames | road IoU | doubt | AUROC | over the threshold |"
    yield "|---|---|---|---|---|---|"
    for name, known, answers in rows:
        familiar = [a.doubt for other, of_known, some in rows if of_known and other != name for a in some]
        doubts, ious = [a.doubt for a in answers], [a.iou for a in answers if a.iou == a.iou]
        iou = f"{np.median(ious):.2f}" if ious else "-"
        told = f"{auroc(familiar, doubts):.2f}" if familiar else "-"
        over = "-" if threshold is None else f"{np.mean(np.array(doubts) > threshold):.0%}"
        label = f"**{name}**" if known else name
        yield f"| {label} | {len(doubts)} | {iou} | {np.median(doubts):.2f} | {told} | {over} |"
    yield ""
    everything = [a for _, _, some in rows for a in some]
    for what, chosen in (("of all", everything), ("of those known", [a for _, k, some in rows if k for a in some])):
        good = [a.doubt for a in chosen if a.iou >= GOOD]
        bad = [a.doubt for a in chosen if a.iou < GOOD]
        if good and bad:
            against = f"{len(bad)} masks with a road IoU below {GOOD} against {len(good)} others"
            yield f"{against}, {what}: AUROC {auroc(good, bad):.2f}"


def milliseconds(size: tuple[int, int]) -> float:
    """What one doubt takes, the median of 200."""
    probability = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        doubt(probability)
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", nargs="+", required=True, metavar="DATA", help="familiar frames, held out of "
                        f"training (of sets that say so, those to validate): {sources.HELP}")  # fmt: skip
    parser.add_argument("--unknown", nargs="+", default=[], metavar="DATA", help="frames that it does not know")
    parser.add_argument("--pictures", nargs="+", type=Path, default=[], metavar="DIR", help="folders of any other "
                        "pictures, such as indoor ones")  # fmt: skip
    parser.add_argument("--model", type=Path, default=shipped_file(str(COMPACT)), help="default: the shipped one")
    options = parser.parse_args()
    try:
        segmenter = RoadSegmenter(options.model, "cpu")
        rows = list(measured(segmenter, options))
    except (DataError, ModelFileError, ProviderError) as error:
        sys.exit(f"doubt.py: {error}")
    print(*table(rows, segmenter.info.doubt_threshold), sep="\n")
    for height, width in SIZES:
        print(f"One doubt of {width}x{height} takes {milliseconds((height, width)):.2f} ms.")


if __name__ == "__main__":
    main()
