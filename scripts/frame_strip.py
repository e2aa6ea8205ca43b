# SPDX-License-Identifier: Apache-2.0
"""Draw the road that a model finds in some frames, two frames a row: the picture at the top of the README.

    python scripts/frame_strip.py --output docs/kitti_frames.jpg FRAME FRAME FRAME FRAME
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from road_seg_node.inference import RoadSegmenter, road_mask  # noqa: E402
from road_seg_node.inference.model_file import ModelFileError  # noqa: E402
from road_seg_node.inference.providers import ProviderError  # noqa: E402
from road_seg_node.overlay import tint  # noqa: E402

WIDTH, HEIGHT = 621, 188  # pixels of one frame: half of KITTI's 1242x375
COLUMNS = 2
GAP = 4  # white pixels between frames
QUALITY = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 88], ".png": []}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", nargs="+", type=Path, metavar="FRAME", help="image files, an even number of them")
    parser.add_argument(
        "--model",
        type=Path,
        default=ROOT / "models" / "road_seg_compact.onnx",
        help="model file (default: the shipped compact one)",
    )
    parser.add_argument("--output", type=Path, required=True, help="the picture to write (.jpg or .png)")
    options = parser.parse_args()
    if len(options.frames) % COLUMNS:
        parser.error(f"give an even number of frames, not {len(options.frames)}")
    if options.output.suffix not in QUALITY:
        parser.error(f"--output must end in .jpg or .png, not in {options.output.suffix!r}")
    try:
        segmenter = RoadSegmenter(options.model)
    except (ModelFileError, ProviderError) as error:
        parser.error(str(error))
    pictures = []
    for path in options.frames:
        bgr = cv2.imread(str(path))
        if bgr is None:
            parser.error(f"{path} is not an image that can be read")
        segmenter.prepare(*bgr.shape[:2])  # at once: what is made in the background may not end before this program
        overlay = tint(bgr, road_mask(segmenter.probability(bgr), segmenter.info.threshold))
        pictures.append(cv2.resize(overlay, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    beside = options.output.with_name(f"{options.output.stem}.part{options.output.suffix}")
    if not cv2.imwrite(str(beside), grid(pictures), QUALITY[options.output.suffix]):
        parser.error(f"{beside} cannot be written")
    beside.replace(options.output)
    return 0


def grid(pictures: list[np.ndarray]) -> np.ndarray:
    """The pictures in rows of COLUMNS: uint8 [height, width, 3] BGR, white between them."""
    rows = len(pictures) // COLUMNS
    shape = (rows * (HEIGHT + GAP) - GAP, COLUMNS * (WIDTH + GAP) - GAP, 3)
    whole = np.full(shape, 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // COLUMNS * (HEIGHT + GAP), number % COLUMNS * (WIDTH + GAP)
        whole[top : top + HEIGHT, left : left + WIDTH] = picture
    return whole


if __name__ == "__main__":
    sys.exit(main())
