# SPDX-License-Identifier: Apache-2.0
"""OpenVINO answers what the exporter's network does, whole or between the graph's resizes, at every size."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_model import expected_probability, tiny_info, write_tiny_model

from road_seg_node.inference import RoadSegmenter, model_file
from road_seg_node.inference.openvino_engine import NetworkOnly, WholeGraph, open_engine
from road_seg_node.shipped import COMPACT
from road_seg_node.synthetic_road.scene import Road

pytest.importorskip("openvino", reason="openvino is not here: pip install openvino")
torch = pytest.importorskip("torch", reason="compared with the trainer's network, which needs PyTorch: `make setup`")

from export.export import to_onnx  # noqa: E402
from train.network.contract import RoadProbability  # noqa: E402
from train.network.model import VGGFCN8  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = [(375, 1242), (360, 480), (96, 160), (227, 321), (1080, 1920)]


@pytest.fixture(
    scope="module", params=[{"policy": "keep_area", "pixels": 18432}, {"policy": "stretch", "width": 192, "height": 96}]
)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of random weights, whose answers are spread over all levels."""
    torch.manual_seed(3)
    network = VGGFCN8(0.125, True, "pool5")
    for score in (network.score_top, network.score_pool4, network.score_pool3):
        torch.nn.init.normal_(score.weight, std=0.5)
    module = RoadProbability(network, request.param).eval()
    with torch.inference_mode():
        golden = module(torch.from_numpy(model_file.golden_image())[None])[0].numpy()
    assert np.unique(golden).size > 100
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    model_file.write(to_onnx(module), tiny_info(golden=golden, resize=request.param), path)
    return path


@pytest.mark.parametrize("size", SIZES)
def test_in_fp32_the_answer_is_the_cpus_at_every_size(path: Path, size: tuple[int, int]) -> None:
    image = Road(5).render(size[1], size[0])[0]
    expected = RoadSegmenter(path, "cpu").probability(image)
    file = model_file.read(path)
    for engine in (open_engine(file, None, "fp32"), open_engine(file, size, "fp32")):
        assert engine.precision == "fp32"
        answer = engine.run(image)
        assert np.abs(answer.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", SIZES)
def test_in_the_fastest_precision_the_answer_is_close(path: Path, size: tuple[int, int]) -> None:
    image = Road(6).render(size[1], size[0])[0]
    expected = RoadSegmenter(path, "cpu").probability(image).astype(int)
    engine = open_engine(model_file.read(path), size, "auto")
    assert isinstance(engine, NetworkOnly)
    difference = np.abs(engine.run(image) - expected)
    assert difference.mean() < 2
    assert np.percentile(difference, 99.9) <= 32


def test_the_engine_for_the_cameras_size_comes_by_itself(path: Path) -> None:
    segmenter = RoadSegmenter(path, "openvino", "fp32")
    first, second = (Road(seed).render(320, 240)[0] for seed in (1, 2))
    other = Road(1).render(160, 120)[0]
    expected = [RoadSegmenter(path, "cpu").probability(image).astype(int) for image in (first, second, other)]
    deadline = time.monotonic() + 60
    while not segmenter._loaded._fitted and time.monotonic() < deadline:
        assert np.abs(segmenter.probability(first) - expected[0]).max() <= 1
    assert {size: type(engine) for size, engine in segmenter._loaded._fitted.items()} == {(240, 320): NetworkOnly}
    for image, right in ((second, expected[1]), (other, expected[2]), (first, expected[0])):
        assert np.abs(segmenter.probability(image) - right).max() <= 1


def test_sizes_that_change_with_every_image_make_no_engine(path: Path) -> None:
    segmenter = RoadSegmenter(path, "openvino")
    for turn in range(40):
        segmenter.probability(np.zeros((64 + turn % 13, 96, 3), np.uint8))
    assert not segmenter._loaded._fitted
    assert not segmenter._loaded._fitting.locked()


def test_cameras_of_several_sizes_in_turn_get_an_engine_each_but_no_more_than_four(path: Path) -> None:
    segmenter = RoadSegmenter(path, "openvino")

    def show(*heights: int) -> set[int]:
        """Images of these heights in turn, until there are as many engines as there may be; those engines' heights."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for height in heights:
                segmenter.probability(np.zeros((height, 96, 3), np.uint8))
            fitted = {size[0] for size in segmenter._loaded._fitted}
            if len(fitted & set(heights)) == min(4, len(heights)) and not segmenter._loaded._fitting.locked():
                return fitted
        raise AssertionError(f"there are engines for {fitted} alone")

    assert show(64, 80) == {64, 80}
    assert show(64, 80, 96, 112, 128) > {64, 80}
    assert len(segmenter._loaded._fitted) == 4
    assert 144 in show(144, 64)  # the one camera was exchanged; engines that no camera needs make room
    assert len(segmenter._loaded._fitted) <= 4


def test_a_graph_of_another_kind_runs_as_it_is(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    engine = open_engine(model_file.read(path), (50, 70), "auto")
    assert isinstance(engine, WholeGraph)
    segmenter = RoadSegmenter(path, "openvino")
    segmenter.prepare(50, 70)
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    np.testing.assert_array_equal(segmenter.probability(image), expected_probability(image))


SIGNALS = """
import gc, os, signal, sys, threading
from road_seg_node.inference import RoadSegmenter

signal.signal(signal.SIGUSR1, lambda number, frame: print("handled"))
segmenter = RoadSegmenter(sys.argv[1], "openvino")

def exchange():
    segmenter.load(sys.argv[1])
    gc.collect()

for _ in range(12):
    thread = threading.Thread(target=exchange)
    thread.start()
    thread.join()
    os.kill(os.getpid(), signal.SIGUSR1)
"""


def with_shipped_model(program: str) -> subprocess.CompletedProcess[str]:
    """A Python program that gets the shipped model's path, run to its end."""
    return subprocess.run(
        [sys.executable, "-c", program, str(REPOSITORY / COMPACT)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_signals_are_survived_after_a_model_was_exchanged_by_another_thread() -> None:
    done = with_shipped_model(SIGNALS)
    assert (done.returncode, done.stdout) == (0, "handled\n" * 12), done.stderr


SHORT_PROGRAM = """
import sys
import numpy as np
from road_seg_node.inference import RoadSegmenter
segmenter = RoadSegmenter(sys.argv[1], "openvino")
for _ in range(3):  # after which an engine is made in the background
    segmenter.probability(np.zeros((375, 1242, 3), np.uint8))
"""


def test_a_program_may_end_while_an_engine_is_being_made() -> None:
    done = with_shipped_model(SHORT_PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")


def test_answers_are_not_overwritten_by_the_next(path: Path) -> None:
    segmenter = RoadSegmenter(path, "openvino")
    segmenter.prepare(96, 160)
    for size in ((96, 160), (100, 200)):
        images = [Road(seed).render(size[1], size[0])[0] for seed in (1, 2)]
        first = segmenter.probability(images[0])
        kept = first.copy()
        segmenter.probability(images[1])
        np.testing.assert_array_equal(first, kept)
