# SPDX-License-Identifier: Apache-2.0
"""Train VGG-FCN-8 on road frames in KITTI's layout and export the model file that the node runs.

    python train/train.py                                        KITTI Road in data/data_road
    python train/train.py --data DIR [DIR ...] --preset compact  folders of your own
    torchrun --standalone --local-addr 127.0.0.1 --nproc-per-node 2 train/train.py ...    on two GPUs
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from train import interruption

if __name__ == "__main__":
    interruption.end_quietly()

if importlib.util.find_spec("torch") is None:
    sys.exit("train.py: PyTorch is not installed here. Run `make setup`, then `source .venv/bin/activate`.")

import torch

from export.export import ExportError, export_checkpoint
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from train import preset as presets
from train.frames import sources
from train.frames.data_error import DataError
from train.interruption import Interrupted, answered, stop
from train.network.checkpoint import CheckpointError
from train.network.weights import WeightsError
from train.preset import PresetError
from train.run import distributed, folds, run_folder
from train.run.distributed import Processes
from train.run.run import TrainingError
from train.run.run_folder import RunLog
from train.run.session import Plan, carry_out

KITTI = Path("data/data_road/training")
KITTI_MISSING = f"""KITTI Road is not in {KITTI}.
  Get it:          download data_road.zip from https://www.cvlibs.net/datasets/kitti/eval_road.php (register, 470 MB)
                   and unpack it into data/, so that {KITTI}/image_2/um_000000.png exists.
  Or your own:     python train/train.py --data DIR, with image_2/ and gt_image_2/ in DIR as KITTI has them.
  Or try without:  python train/train.py --synthetic-only, on synthetic road scenes alone."""
DISK_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)

log = logging.getLogger("train")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", metavar="DATA", help=f"{sources.HELP} (default: {KITTI})")
    parser.add_argument("--preset", help="a name in train/presets, or a YAML file (default: compact)")
    parser.add_argument("--leave-out", nargs="+", metavar="DRIVE", help="drives to exclude from training")
    parser.add_argument("--synthetic-only", action="store_true", help="train on synthetic scenes alone; needs no data")
    parser.add_argument("--init", metavar="WEIGHTS", help="starting weights: imagenet, none (from scratch), or a file: "
                        "torchvision's VGG-16 (.pth), a checkpoint, a model file; overrides the preset")  # fmt: skip
    parser.add_argument("--teacher", metavar="FILE", help="a checkpoint (.pt) or a model file (.onnx) to learn "
                        "from: in addition to the ground truth, and instead of it where there is none")  # fmt: skip
    parser.add_argument("--run", "--run-folder", type=Path, help="the run's folder (default: runs/<date>-<preset>)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run, with its data and preset")
    parser.add_argument("--save-every", type=float, default=10, metavar="MINUTES", help="between checkpoints, which "
                        "are also saved after each epoch (default: 10)")  # fmt: skip
    parser.add_argument("--micro-batch", type=int, metavar="N", help="process N frames at a time, to save memory")
    parser.add_argument("--cache", type=float, metavar="GB", help="memory of each process for decoded frames "
                        "(default: half of what is free); changes only the speed")  # fmt: skip
    parser.add_argument("--folds", type=int, metavar="K", help="cross-validate in K runs, by category or drive")
    parser.add_argument("--epochs", type=int, help="overrides the preset")
    parser.add_argument("--seed", type=int, help="overrides the preset")
    parser.add_argument("--synthetic-share", type=float, metavar="SHARE", help="of synthetic scenes, 0 to 1; overrides "
                        "the preset")  # fmt: skip
    parser.add_argument("--workers", type=int, help="threads that make batches; overrides the preset")
    parser.set_defaults(fold=None)  # a run of a cross-validation has one, and a resume takes it from the run's folder
    options = parser.parse_args()
    if options.cache is not None and not options.cache >= 0:
        parser.error("--cache must be at least 0")
    return options


@contextmanager
def sentences_for_mistakes() -> Iterator[None]:
    """A user's mistake ends with its sentence and exit code 2, never with a traceback."""
    try:
        yield
    except (DataError, PresetError, ExportError, WeightsError, ModelFileError, ProviderError) as error:
        fail(f"{error}", 2)
    except (CheckpointError, TrainingError) as error:
        fail(f"{error}", 1)
    except Interrupted as interrupted:
        kept = "everything is saved" if interrupted.saved else "what had not been saved is lost"
        tell(f"stopped by {interrupted}; {kept}. Continue with --resume and the same --run-folder.")
        interruption.leave(interrupted.exit_code)
    except (MemoryError, torch.OutOfMemoryError) as error:
        why = str(error).partition("\n")[0]
        advice = "Use --micro-batch N to process N frames of a batch at a time, or a preset with smaller crops."
        fail(f"Not enough memory: {why.rstrip('.')}. {advice}", 1)
    except OSError as error:
        if error.errno not in DISK_FAILS:
            raise
        fail(f"A file cannot be written: {error.strerror}. Free space, then --resume with the same --run-folder.", 1)


def fail(sentence: str, exit_code: int) -> NoReturn:
    tell(sentence)
    distributed.leave(exit_code)


def tell(sentence: str) -> None:
    log.error(sentence)
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of the processes that torchrun started, one speaks
        print(f"train.py: {sentence}", file=sys.stderr)


def main() -> None:
    options = arguments()
    threading.excepthook = leave_to_the_run
    with sentences_for_mistakes(), answered(stop), distributed.joined() as processes:
        speak(processes)
        plan = plan_of(options, processes)
        if options.folds is None:
            carry_out(plan, processes, export)
        else:
            folds.cross_validate(plan, options.folds, processes, export)
    distributed.leave(0)


def leave_to_the_run(args: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread meets a full disk first, and then raises what it met in the run, which says it."""
    if not isinstance(args.exc_value, OSError):
        threading.__excepthook__(args)


def speak(processes: Processes) -> None:
    """Let the first process say what the run logs, on the screen and, once it is there, in the run's folder."""
    if not processes.first:
        log.setLevel(logging.CRITICAL)
        return
    screen = logging.StreamHandler(sys.stdout)
    screen.addFilter(lambda record: record.levelno < logging.ERROR)
    log.setLevel(logging.INFO)
    log.addHandler(screen)
    log.addHandler(RunLog())


def export(checkpoint: Path, output: Path, images: Path | None) -> None:
    """What a run's end does, as `python export/export.py` does it."""
    export_checkpoint(checkpoint, output, images=images)


def plan_of(options: argparse.Namespace, processes: Processes) -> Plan:
    """The plan; what a resume does not say is as the run in the folder has it.

    Raises:
        DataError, PresetError: no data, no such preset, or nothing to resume.
    """
    preset_file = options.preset or "compact"
    if options.resume:
        if options.run is None:
            raise DataError("Name the folder of the run to resume with --run-folder.")
        recorded = options.run if options.folds is None else folds.folder_of(options.run, 1)
        for name, value in run_folder.recorded(recorded).items():
            if getattr(options, name) is None:
                setattr(options, name, value)
        preset_file = options.preset or str(recorded / run_folder.PRESET)
    if options.synthetic_only:
        options.data = []
    elif options.data is None:
        if not KITTI.is_dir():
            raise DataError(KITTI_MISSING)
        options.data = [str(KITTI)]
    changeable = ("epochs", "init", "seed", "synthetic_share", "teacher", "workers")
    changes = {name: value for name in changeable if (value := getattr(options, name)) is not None}
    folder = options.run or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(preset_file).stem}"
    return Plan(
        preset=presets.load(preset_file, changes),
        data=tuple(options.data),
        left_out=tuple(options.leave_out or ()),
        micro_batch=options.micro_batch,
        folder=processes.agree(folder),
        resume=options.resume,
        save_every=options.save_every,
        cache=None if options.cache is None else options.cache * 1e9,
        fold=tuple(options.fold) if options.fold else None,
    )


if __name__ == "__main__":
    main()
