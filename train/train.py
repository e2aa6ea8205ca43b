# SPDX-License-Identifier: Apache-2.0
"""Train VGG-FCN-8 on road frames in KITTI's layout and export the model file that the node runs.

    python train/train.py                                        KITTI Road in data/data_road
    python train/train.py --data DIR [DIR ...] --preset compact  folders of your own
    torchrun --nproc-per-node 2 train/train.py ...               on two GPUs (take --run-folder for --run)
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if importlib.util.find_spec("torch") is None:
    sys.exit("train.py: PyTorch is not installed here. Run `make setup`, then `source .venv/bin/activate`.")

from export.export import ExportError, export_checkpoint
from train import checkpoint, distributed
from train import preset as presets
from train.augment import CropBatches
from train.checkpoint import CheckpointError
from train.contract import normalise
from train.data import DataError
from train.datasets import gather
from train.distributed import Processes
from train.interruption import Interrupted
from train.learner import Learner, new_network
from train.preset import PresetError
from train.run import Run, TrainingError
from train.weights import WeightsError, find_weights, start_from

KITTI = Path("data/data_road/training")
KITTI_MISSING = f"""KITTI Road is not in {KITTI}.
  Get it:          download data_road.zip from https://www.cvlibs.net/datasets/kitti/eval_road.php (register, 470 MB)
                   and unpack it into data/, so that {KITTI}/image_2/um_000000.png exists.
  Or your own:     python train/train.py --data DIR, with image_2/ and gt_image_2/ in DIR as KITTI has them.
  Or try without:  python train/train.py --synthetic-only, on synthetic road scenes alone."""
CALIBRATION_BATCHES = 16  # for the batch norm of a model file to start from

log = logging.getLogger("train")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, metavar="DIR", help=f"folders in KITTI Road's layout ({KITTI})")
    parser.add_argument("--preset", default="compact", help="a name in train/presets, or a YAML file (compact)")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="DRIVE", help="drives not to train on")
    parser.add_argument("--synthetic-only", action="store_true", help="train on synthetic scenes, without any data")
    parser.add_argument("--init", metavar="WEIGHTS", help="imagenet, none, or a file: torchvision's VGG-16 (.pth), a "
                        "checkpoint (.pt), a model file (.onnx); instead of the preset's")  # fmt: skip
    parser.add_argument("--run", "--run-folder", type=Path, help="folder of the run (runs/<date>-<preset>)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the run folder")
    parser.add_argument("--save-every", type=float, default=10, metavar="MINUTES", help="besides each epoch's end (10)")
    parser.add_argument("--micro-batch", type=int, metavar="N", help="frames in memory at once, for a small one")
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--seed", type=int, help="instead of the preset's")
    parser.add_argument("--synthetic-share", type=float, metavar="SHARE", help="instead of the preset's, 0 to 1")
    return parser.parse_args()


@contextmanager
def sentences_for_mistakes() -> Iterator[None]:
    """A user's mistake ends with its sentence and exit code 2, never with a traceback."""
    try:
        yield
    except (DataError, PresetError, ExportError, WeightsError) as error:
        fail(f"{error}", 2)
    except (CheckpointError, TrainingError) as error:
        fail(f"{error}", 1)
    except Interrupted as interrupted:
        fail(f"stopped by {interrupted}; go on with --resume and the same --run.", interrupted.exit_code)
    except KeyboardInterrupt:
        fail("interrupted; go on with --resume and the same --run.", 130)


def fail(sentence: str, exit_code: int) -> NoReturn:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of the processes that torchrun started, one speaks
        print(f"train.py: {sentence}", file=sys.stderr)
    sys.exit(exit_code)


def main() -> None:
    options = arguments()
    with sentences_for_mistakes(), distributed.joined() as processes:
        log.setLevel(logging.INFO if processes.first else logging.ERROR)
        log.addHandler(logging.StreamHandler(sys.stdout))
        train(options, processes)


def train(options: argparse.Namespace, processes: Processes) -> None:
    """One run, from its options to the model file."""
    if options.synthetic_only:
        options.data = []
    elif options.data is None:
        if not KITTI.is_dir():
            raise DataError(KITTI_MISSING)
        options.data = [KITTI]
    changeable = ("epochs", "init", "seed", "synthetic_share")
    changes = {name: value for name in changeable if (value := getattr(options, name)) is not None}
    preset = presets.load(options.preset, changes)
    folder = options.run or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(options.preset).stem}"
    folder = processes.agree(folder)
    if checkpoint.exists(folder) and not options.resume:
        raise DataError(f"{folder} already holds a run. Go on with --resume, or choose another --run.")
    if options.resume and not folder.is_dir():
        raise DataError(f"There is nothing to resume: {folder} is not a folder. Name the run's with --run.")
    saved = checkpoint.newest_good(folder) if checkpoint.exists(folder) else None
    source = find_weights(preset.init, preset.width, preset.batch_norm) if not saved else None
    frames = gather(options, preset)
    training, held = frames.read()
    batches = CropBatches(
        training,
        frames.weights,
        preset.batch_size,
        preset.crops,
        preset.resize["width"],
        preset.augmentation,
        preset.seed,
    )
    share = slice(processes.rank, None, processes.count)
    validation = {name: pairs[share] for name, pairs in held.items()}
    network = new_network(preset)
    if not saved:
        images = (normalise(images) for images, _ in islice(batches, CALIBRATION_BATCHES))
        log.info(start_from(network, source, images))
    learner = Learner(preset, network, len(batches), processes, options.micro_batch)
    run = Run(learner, batches, validation, folder, options.save_every * 60)
    if saved:
        run.resume(*saved)
    folder.mkdir(parents=True, exist_ok=True)
    if options.resume:
        log.info(f"Going on from {f'epoch {run.epoch + 1}, batch {run.batch + 1}' if saved else 'the beginning'}.")
    where = f"{processes.count} processes on {learner.device.type}" if processes.count > 1 else learner.device.type
    log.info(f"Training {learner.network.architecture} on {where}, into {folder}.")
    run.train()
    if processes.first:
        model = folder / "road_seg.onnx"
        export_checkpoint(folder / "best.pt", model, images=options.data[0] / "image_2" if options.data else None)
        log.info(f"\nWrote {model}. See it run:\n  ros2 launch road_seg_node seg.launch.py model:={model.resolve()}")


if __name__ == "__main__":
    main()
