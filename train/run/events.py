# SPDX-License-Identifier: Apache-2.0
"""What TensorBoard shows of a run: `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from train.score.metrics import FIGURES, RoadCounts, text

WIDEST = 640  # of a picture, in pixels


class Events:
    """Curves over the steps of a run, and after each epoch a table and pictures."""

    def __init__(self, folder: Path, step: int) -> None:
        """Go on after `step`; what a run that was killed wrote beyond it is not shown."""
        self.writer = SummaryWriter(folder, purge_step=step + 1)

    def step(self, step: int, loss: float, learning_rate: float, images_per_second: float) -> None:
        self.writer.add_scalar("train/loss", loss, step)
        self.writer.add_scalar("train/learning_rate", learning_rate, step)
        self.writer.add_scalar("train/images_per_second", images_per_second, step)

    def epoch(self, step: int, counts: Mapping[str, RoadCounts], threshold: float) -> None:
        """KITTI's figures by data set, at each one's best threshold, and road IoU at the one threshold of all."""
        figures = {name: of_set.figures() for name, of_set in counts.items()}
        rows = [["data set", *FIGURES, f"iou at {threshold:.3f}"], ["---"] * (len(FIGURES) + 2)]
        for name, of_set in counts.items():
            iou = of_set.iou(threshold)
            self.writer.add_scalar(f"validation/road_iou/{name}", iou, step)
            for figure in ("max_f", "ap"):
                if (value := figures[name][figure]) is not None:
                    self.writer.add_scalar(f"validation/{figure}/{name}", value, step)
            rows.append([name, *(text(value) for value in figures[name].values()), text(iou)])
        self.writer.add_text("validation", "\n".join(f"| {' | '.join(row)} |" for row in rows), step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """`picture` is uint8 [H, W, 3] BGR."""
        height, width = picture.shape[:2]
        if width > WIDEST:
            picture = cv2.resize(picture, (WIDEST, round(height * WIDEST / width)), interpolation=cv2.INTER_AREA)
        self.writer.add_image(f"validation/{name}", cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), step, dataformats="HWC")

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
