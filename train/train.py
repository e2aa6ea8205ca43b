# SPDX-License-Identifier: Apache-2.0
"""Train VGG-FCN-8 on road frames in KITTI's layout and export the model file that the node runs.

    python train/train.py                                        KITTI Road in data/data_road
    python train/train.py --data DIR [DIR ...] --preset compact  folders of your own
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    import torch
except ImportError:
    sys.exit("train.py: PyTorch is not installed here. Run `make setup`, then `source .venv/bin/activate`.")

import numpy as np
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from export.export import ExportError, export_checkpoint, load_checkpoint
from road_seg_node.scene import Road
from train import preset as presets
from train.augment import CropBatches, Pair
from train.contract import RoadProbability, normalise
from train.data import IGNORE, DataError, find_frames, leave_out, read_all, split_validation
from train.metrics import RoadCounts
from train.model import VGGFCN8
from train.preset import Preset, PresetError

KITTI = Path("data/data_road/training")
KITTI_MISSING = f"""KITTI Road is not in {KITTI}.
  Get it:          download data_road.zip from https://www.cvlibs.net/datasets/kitti/eval_road.php (register, 470 MB)
                   and unpack it into data/, so that {KITTI}/image_2/um_000000.png exists.
  Or your own:     python train/train.py --data DIR, with image_2/ and gt_image_2/ in DIR as KITTI has them.
  Or try without:  python train/train.py --synthetic-only, on synthetic road scenes alone."""
SCENE_SIZES = ((480, 360), (320, 227), (576, 160), (1242, 375))
TRAINING_SEED, VALIDATION_SEED = 1_000_000, 2_000_000  # of scenes; the demo's and the tests' seeds are small
SCENES_ONLY = 400  # scenes an epoch of a run without a data set
SCENE_POOL = 4  # times as many scenes as an epoch shows are rendered, so that epochs differ
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def scenes(count: int, first_seed: int) -> list[Pair]:
    """Synthetic pairs of road scenes, each of its own seed."""
    pairs = []
    for i in range(count):
        width, height = SCENE_SIZES[i % len(SCENE_SIZES)]
        image, road = Road(first_seed + i).render(width, height, time=float(i % 7))
        pairs.append((image, road.astype(np.uint8)))
    return pairs


def gather(options: argparse.Namespace, preset: Preset) -> tuple[list[Pair], list[float], dict[str, list[Pair]]]:
    """Training pairs, how often an epoch shows each, and validation pairs by data set."""
    pairs: list[Pair] = []
    weights: list[float] = []
    validation: dict[str, list[Pair]] = {}
    found = {folder: find_frames(folder) for folder in options.data}
    if options.leave_out:
        kept = set(leave_out([f for frames in found.values() for f in frames], options.leave_out))
        found = {folder: [f for f in frames if f in kept] for folder, frames in found.items()}
    for folder, frames in found.items():
        name = folder.parent.name if folder.name == "training" else folder.name
        beside = folder.parent / "validation"
        held = find_frames(beside) if beside.is_dir() and folder.name == "training" else []
        held = [frame for frame in held if frame.drive not in options.leave_out]
        if not held:
            frames, held = split_validation(frames, preset.validation_share)
        if not frames or not held:
            raise DataError(f"{folder} has too few frames left to train on some and validate on others.")
        print(f"{name}: {len(frames)} frames to train on, {len(held)} held out to validate.", flush=True)
        pairs += read_all(frames)
        weights += [preset.folder_weights.get(name, 1.0)] * len(frames)
        validation[name] = read_all(held)
    share = preset.synthetic_share
    count = round(sum(weights) * share / (1 - share)) if pairs else SCENES_ONLY
    if count:
        print(f"Rendering {SCENE_POOL * count} synthetic scenes, of which an epoch shows {count}.", flush=True)
        pairs += scenes(SCENE_POOL * count, TRAINING_SEED)
        weights += [1 / SCENE_POOL] * (SCENE_POOL * count)
        validation["synthetic"] = scenes(max(20, count // 10), VALIDATION_SEED)
    return pairs, weights, validation


def road_loss(logits: Tensor, labels: Tensor, dice_weight: float) -> Tensor:
    """Cross-entropy over valid pixels, blended with soft Dice of the road over the batch."""
    entropy = functional.cross_entropy(logits, labels, ignore_index=IGNORE)
    if dice_weight == 0:
        return entropy
    valid, road = (labels != IGNORE).float(), (labels == 1).float()
    p = torch.sigmoid(logits[:, 1] - logits[:, 0]) * valid
    dice = 1 - (2 * (p * road).sum() + 1) / (p.sum() + road.sum() + 1)
    return (1 - dice_weight) * entropy + dice_weight * dice


def validate(
    network: VGGFCN8, resize: dict[str, Any], sets: dict[str, list[Pair]], device: str
) -> dict[str, RoadCounts]:
    """Counts by data set, from the same bytes-to-bytes module that is exported."""
    whole = RoadProbability(network, resize).eval()
    counts = {}
    with torch.inference_mode():
        for name, pairs in sets.items():
            counts[name] = RoadCounts()
            for image, labels in pairs:
                probability = whole(torch.from_numpy(image)[None].to(device))[0]
                counts[name].add(probability.cpu().numpy(), labels)
    return counts


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def read_weights(path: Path) -> dict[str, Tensor]:
    """torchvision's VGG-16 state dict.

    Raises:
        PresetError: the file is missing or no state dict.
    """
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise PresetError(
            f"There is no file {path}. Download vgg16-397923af.pth from download.pytorch.org/models and name it."
        ) from None
    except Exception as error:  # torch raises many kinds for a file that is no state dict
        raise PresetError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from None
    if not isinstance(weights, dict):
        raise PresetError(f"{path} holds no state dict of torchvision's VGG-16.")
    return weights


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint beside its place and rename it, so that it is never half there."""
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class Run:
    """One training run: network, optimizer and averaged weights, and where they are saved."""

    def __init__(self, preset: Preset, loader: CropBatches, validation: dict[str, list[Pair]], folder: Path) -> None:
        torch.manual_seed(preset.seed)
        self.preset, self.batches, self.validation, self.folder = preset, loader, validation, folder
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        network = VGGFCN8(preset.width, preset.batch_norm, preset.head)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        decay = get_ema_multi_avg_fn(preset.ema_decay)
        self.averaged = AveragedModel(self.network, multi_avg_fn=decay, use_buffers=True)
        # Weight decay is for convolutions: on biases and batch norm it only harms.
        groups = [
            {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": preset.weight_decay},
            {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=preset.learning_rate)
        total, warmup = preset.epochs * len(loader), round(preset.warmup_epochs * len(loader))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, warmup, total)
        )
        self.scaler = torch.amp.GradScaler(self.device, enabled=preset.autocast == "fp16")
        self.epoch, self.best = 0, -1.0

    def state(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Everything that a resume or an export needs."""
        return {
            "epoch": self.epoch,
            "best": self.best,
            "preset": self.preset.as_dict(),
            "datasets": sorted(self.validation),
            "metrics": metrics,
            "model": self.averaged.module.state_dict(),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }

    def resume(self, path: Path) -> None:
        """Go on where `path` stopped.

        Raises:
            PresetError: the checkpoint was made with another preset.
        """
        state = load_checkpoint(path)
        mine = self.preset.as_dict()
        differing = sorted(k for k in mine if mine[k] != state["preset"].get(k))
        if differing:
            raise PresetError(
                f"{path} was made with other values of {', '.join(differing)}. Resume with the same ones, or start "
                "anew."
            )
        if state["datasets"] != sorted(self.validation):
            raise PresetError(f"{path} was trained on {', '.join(state['datasets'])}. Resume with the same --data.")
        for name in ("network", "averaged", "optimizer", "schedule", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        torch.set_rng_state(state["torch_rng"])
        self.epoch, self.best = state["epoch"], state["best"]

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with torchvision's VGG-16 weights in the encoder (and fc6, fc7) instead of from nothing.

        Raises:
            PresetError: they were made for another network than the preset's.
        """
        try:
            self.network.load_vgg16(weights)
        except ValueError as error:
            raise PresetError(f"{error} ImageNet's weights fit the preset vgg16.") from None
        self.averaged.module.load_state_dict(self.network.state_dict())

    def train(self) -> None:
        """Train the epochs that are left; `best.pt` and `last.pt` are written after each."""
        loader = DataLoader(self.batches, batch_size=None, num_workers=self.preset.workers)
        while self.epoch < self.preset.epochs:
            self.batches.epoch = self.epoch
            loss, seconds = self.train_epoch(loader)
            self.epoch += 1
            counts = validate(self.averaged.module, self.preset.resize, self.validation, self.device)
            # The mean over data sets, so that a large one does not drown a small one.
            curve = np.mean([c.iou_by_threshold() for c in counts.values()], axis=0)
            threshold, mean = int(curve.argmax()) / 255, float(curve.max())
            metrics = {
                "epoch": self.epoch,
                "loss": round(loss, 4),
                "threshold": threshold,
                "road_iou": {name: round(c.iou(threshold), 4) for name, c in counts.items()},
                "mean_road_iou": round(mean, 4),
            }
            better = mean > self.best
            self.best = max(self.best, mean)
            state = self.state(metrics)
            save(state, self.folder / "last.pt")
            if better:
                save(state, self.folder / "best.pt")
            table = ", ".join(f"{name} {c.iou(threshold):.3f}" for name, c in counts.items())
            print(
                f"Epoch {self.epoch}/{self.preset.epochs}: loss {loss:.4f}, road IoU {table}, mean "
                f"{mean:.4f}{' (best)' if better else ''}, {seconds:.0f} s.",
                flush=True,
            )

    def train_epoch(self, loader: DataLoader[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """(mean loss, seconds) of one epoch."""
        self.network.train()
        losses, start = [], time.monotonic()
        progress = tqdm(loader, total=len(self.batches), desc=f"Epoch {self.epoch + 1}", disable=None, leave=False)
        for images, labels in progress:
            loss = self.step(images, labels)
            losses.append(loss)
            progress.set_postfix(loss=f"{loss:.4f}")
        return float(np.mean(losses)), time.monotonic() - start

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One update from images uint8 [batch, 3, h, w] RGB and labels int64 [batch, h, w]; returns the loss."""
        x = normalise(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        dtype = AUTOCAST.get(self.preset.autocast)
        with torch.autocast(self.device, dtype or torch.bfloat16, enabled=dtype is not None):
            logits = self.network(x)
        loss = road_loss(logits, labels.to(self.device), self.preset.dice_weight)
        if not torch.isfinite(loss):
            raise PresetError(
                f"The loss became {loss.item()} in epoch {self.epoch + 1}. Lower learning_rate or gradient_clip, "
                "or set autocast to none; last.pt holds the epoch before."
            )
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.preset.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.averaged.update_parameters(self.network)
        return float(loss.detach())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, metavar="DIR", help=f"folders in KITTI Road's layout ({KITTI})")
    parser.add_argument("--preset", default="compact", help="a name in train/presets, or a YAML file (compact)")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="DRIVE", help="drives not to train on")
    parser.add_argument("--synthetic-only", action="store_true", help="train on synthetic scenes, without any data")
    parser.add_argument("--init", type=Path, metavar="FILE", help="torchvision's VGG-16 weights to start from (.pth)")
    parser.add_argument("--run", type=Path, help="folder of the run (runs/<date>-<preset>)")
    parser.add_argument("--resume", action="store_true", help="go on from last.pt in the run folder")
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--seed", type=int, help="instead of the preset's")
    parser.add_argument("--synthetic-share", type=float, metavar="SHARE", help="instead of the preset's, 0 to 1")
    return parser.parse_args()


@contextmanager
def sentences_for_mistakes() -> Iterator[None]:
    """A user's mistake ends with its sentence and exit code 2, never with a traceback."""
    try:
        yield
    except (DataError, PresetError, ExportError) as error:
        sys.exit(f"train.py: {error}")
    except KeyboardInterrupt:
        sys.exit("train.py: interrupted; go on with --resume and the same --run.")


def main() -> None:
    options = arguments()
    with sentences_for_mistakes():
        if options.synthetic_only:
            options.data = []
        elif options.data is None:
            if not KITTI.is_dir():
                raise DataError(KITTI_MISSING)
            options.data = [KITTI]
        changes = {k: v for k in ("epochs", "seed", "synthetic_share") if (v := getattr(options, k)) is not None}
        preset = presets.load(options.preset, changes)
        folder = options.run or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(options.preset).stem}"
        last = folder / "last.pt"
        if options.resume and not last.is_file():
            raise DataError(f"There is nothing to resume in {folder}: {last.name} is missing. Name the run with --run.")
        if last.is_file() and not options.resume:
            raise DataError(f"{folder} already holds a run. Go on with --resume, or choose another --run.")
        weights_file = read_weights(options.init) if options.init and not options.resume else None
        pairs, weights, validation = gather(options, preset)
        batches = CropBatches(
            pairs, weights, preset.batch_size, preset.crops, preset.resize["width"], preset.augmentation, preset.seed
        )
        run = Run(preset, batches, validation, folder)
        if options.resume:
            run.resume(last)
        elif weights_file is not None:
            run.start_from(weights_file)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Training {run.network.architecture} on {run.device}, into {folder}.", flush=True)
        run.train()
        model = folder / "road_seg.onnx"
        export_checkpoint(folder / "best.pt", model, images=options.data[0] / "image_2" if options.data else None)
    print(f"\nWrote {model}. See it run:\n  ros2 launch road_seg_node seg.launch.py model:={model.resolve()}")


if __name__ == "__main__":
    main()
