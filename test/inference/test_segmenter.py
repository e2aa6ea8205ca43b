# SPDX-License-Identifier: Apache-2.0
"""The segmenter answers every image that it may be given, and proves its network before the first."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_model import expected_probability, tiny_graph, tiny_info, write_tiny_model

from road_seg_node.inference import RoadSegmenter, model_file, road_mask
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "road_seg_compact.onnx"


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> RoadSegmenter:
    return RoadSegmenter(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"), "cpu")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return uint8 [height, width, 3] whose tiny-model answer is graded: colours not far from grey."""
    generator = np.random.default_rng(seed)
    grey = generator.integers(0, 208, (height, width, 1))
    return (grey + generator.integers(0, 48, (height, width, 3))).astype(np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 640), (375, 1242), (360, 480), (7, 3), (1080, 1920)])
def test_every_byte_is_the_models(segmenter: RoadSegmenter, size: tuple[int, int]) -> None:
    image = noise(*size)
    answer = segmenter.probability(image)
    assert answer.dtype == np.uint8
    np.testing.assert_array_equal(answer, expected_probability(image))


def test_sizes_may_change_between_calls(segmenter: RoadSegmenter) -> None:
    for seed, size in enumerate([(48, 64), (375, 1242), (48, 64), (1, 2), (360, 480)]):
        image = noise(*size, seed)
        np.testing.assert_array_equal(segmenter.probability(image), expected_probability(image))


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[:, ::-1],
        lambda image: image[..., ::-1],
        lambda image: image[3:-5, 7:-2],
        lambda image: image.transpose(1, 0, 2),
        lambda image: np.broadcast_to(image[:1], image.shape),
        lambda image: np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape),
    ],
    ids=["mirrored", "rgb", "cropped", "transposed", "repeated row", "read-only"],
)
def test_views_are_answered_as_their_copies(segmenter: RoadSegmenter, view) -> None:
    image = view(noise(40, 60))
    before = image.copy()
    np.testing.assert_array_equal(segmenter.probability(image), expected_probability(before))
    np.testing.assert_array_equal(image, before)


def test_an_answer_is_not_overwritten_by_the_next(segmenter: RoadSegmenter) -> None:
    first_image, second_image = noise(40, 60, 1), noise(40, 60, 2)
    first = segmenter.probability(first_image)
    segmenter.probability(second_image)
    np.testing.assert_array_equal(first, expected_probability(first_image))


def test_threads_may_share_a_segmenter(segmenter: RoadSegmenter) -> None:
    images = [noise(90 + seed, 160, seed) for seed in range(32)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(segmenter.probability, images))
    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_array_equal(answer, expected_probability(image))


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((4, 5, 3), np.float32), "not float32 [4, 5, 3]"),
        (np.zeros((4, 5, 3), np.int8), "not int8 [4, 5, 3]"),
        (np.zeros((4, 5), np.uint8), "not uint8 [4, 5]"),
        (np.zeros((4, 5, 4), np.uint8), "not uint8 [4, 5, 4]"),
        (np.zeros((1, 4, 5, 3), np.uint8), "not uint8 [1, 4, 5, 3]"),
        (np.zeros((0, 5, 3), np.uint8), "not uint8 [0, 5, 3]"),
        (np.zeros((4, 0, 3), np.uint8), "not uint8 [4, 0, 3]"),
    ],
)
def test_arrays_that_are_no_image(segmenter: RoadSegmenter, image: np.ndarray, found: str) -> None:
    with pytest.raises(ValueError, match=re.escape(found)):
        segmenter.probability(image)


def test_the_file_may_go_once_it_is_loaded(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.onnx")
    segmenter = RoadSegmenter(str(path), "cpu")
    path.unlink()
    image = noise(30, 40)
    np.testing.assert_array_equal(segmenter.probability(image), expected_probability(image))


def golden_off_by(difference: int, pixels: int) -> np.ndarray:
    """Return the tiny model's golden answer with its first `pixels` moved by `difference`."""
    golden = tiny_info().golden.astype(np.int16).ravel()
    golden[:pixels] += np.where(golden[:pixels] < 128, difference, -difference)
    return golden.astype(np.uint8).reshape(model_file.GOLDEN_HEIGHT, model_file.GOLDEN_WIDTH)


@pytest.mark.parametrize(("difference", "pixels"), [(0, 0), (1, 96 * 160), (2, 96 * 160), (32, 500)])
def test_a_provider_may_round_otherwise(tmp_path: Path, difference: int, pixels: int) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", golden=golden_off_by(difference, pixels))
    assert RoadSegmenter(path, "cpu").golden_difference == difference


@pytest.mark.parametrize(
    ("difference", "pixels", "found"),
    [(33, 1, "by 33 of 255 at most, by 0.0"), (3, 96 * 160, "by 3 of 255 at most, by 3.0")],
    ids=["one pixel far off", "everything a little off"],
)
@pytest.mark.parametrize("provider", ["cpu", "auto"])
def test_a_provider_that_computes_another_network_is_refused(
    tmp_path: Path, provider: str, difference: int, pixels: int, found: str
) -> None:
    path = write_tiny_model(tmp_path / "m.onnx", golden=golden_off_by(difference, pixels))
    with pytest.raises(ProviderError) as caught:
        RoadSegmenter(path, provider)
    sentence = str(caught.value)
    assert sentence.startswith("cpu computes another network")
    assert str(path) in sentence
    assert found in sentence


@pytest.mark.needs("onnx")
def test_a_model_that_answers_in_another_size_is_refused(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    model = tiny_graph()
    graph = model.graph
    graph.node[-1].output[0] = "whole"
    bounds = {"start": [1], "end": [2**31], "axis": [1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in bounds.items())
    graph.node.append(helper.make_node("Slice", ["whole", *bounds], [model_file.OUTPUT_NAME]))
    path = tmp_path / "m.onnx"
    model_file.write(model, tiny_info(), path)
    with pytest.raises(ModelFileError, match=r"answers an image of 160x96 with an array uint8 \[95, 160\]"):
        RoadSegmenter(path, "cpu")


def write_square_root_model(path: Path) -> Path:
    """Write a model that answers sqrt(red - 1), NaN where red is 0, cast to bytes."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {"red_at": np.array(2, np.int64), "one": np.array(1, np.float32)}
    nodes = [
        helper.make_node("Cast", [model_file.INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["pixels", "red_at"], ["red"], axis=-1),
        helper.make_node("Sub", ["red", "one"], ["less"]),
        helper.make_node("Sqrt", ["less"], ["root"]),
        helper.make_node("Cast", ["root"], [model_file.OUTPUT_NAME], to=TensorProto.UINT8),
    ]
    model = tiny_graph()
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    red = model_file.golden_image()[..., 2].astype(np.float32)
    model_file.write(model, tiny_info(golden=np.sqrt(red - 1).astype(np.uint8)), path)
    return path


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("provider", ["cpu", pytest.param("openvino", marks=pytest.mark.needs("openvino"))])
@pytest.mark.parametrize("pixels", [1, 30 * 40])
def test_an_answer_with_nan_is_an_error_and_the_next_image_is_answered(
    tmp_path: Path, provider: str, pixels: int
) -> None:
    segmenter = RoadSegmenter(write_square_root_model(tmp_path / "m.onnx"), provider)
    good = np.full((30, 40, 3), 101, np.uint8)
    bad = good.copy()
    bad.reshape(-1, 3)[:pixels, 2] = 0
    for _ in range(2):
        np.testing.assert_array_equal(segmenter.probability(good), np.full((30, 40), 10, np.uint8))
        with pytest.raises(ProviderError, match="the network answered NaN or infinity"):
            segmenter.probability(bad)


@pytest.mark.needs("onnx")
def test_load_takes_another_model_between_two_images(tmp_path: Path) -> None:
    segmenter = RoadSegmenter(write_tiny_model(tmp_path / "m.onnx"), "cpu")
    before = segmenter.model_sha256
    segmenter.load(write_square_root_model(tmp_path / "n.onnx"))
    assert segmenter.model_sha256 != before
    image = np.full((30, 40, 3), 101, np.uint8)
    np.testing.assert_array_equal(segmenter.probability(image), np.full((30, 40), 10, np.uint8))


def test_a_bad_file_leaves_the_old_model_running(tmp_path: Path) -> None:
    segmenter = RoadSegmenter(write_tiny_model(tmp_path / "m.onnx", name="old"), "cpu")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    wrong = write_tiny_model(tmp_path / "wrong.onnx", golden=golden_off_by(33, 1))
    for path, kind in ((tmp_path / "bad.onnx", ModelFileError), (wrong, ProviderError)):
        with pytest.raises(kind, match=str(path)):
            segmenter.load(path)
        assert segmenter.info.name == "old"
        image = noise(30, 40)
        np.testing.assert_array_equal(segmenter.probability(image), expected_probability(image))


@pytest.mark.needs("onnx")
def test_models_are_exchanged_under_load_without_a_wrong_answer(tmp_path: Path) -> None:
    paths = [write_tiny_model(tmp_path / "m.onnx"), write_square_root_model(tmp_path / "n.onnx")]
    segmenter = RoadSegmenter(paths[0], "cpu")
    image = np.full((60, 80, 3), (90, 101, 101), np.uint8)
    answers = (expected_probability(image), np.full((60, 80), 10, np.uint8))
    stop = threading.Event()
    wrong: list[np.ndarray] = []

    def ask() -> None:
        while not stop.is_set():
            answer = segmenter.probability(image)
            if not any(np.array_equal(answer, right) for right in answers):
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(10):
        segmenter.load(paths[turn % 2])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


EXCHANGES = """
import os, sys
from pathlib import Path
import numpy as np
from road_seg_node.inference import RoadSegmenter

model, provider, *numbers = sys.argv[1:]
exchanges, frames = map(int, numbers)
segmenter = RoadSegmenter(model, provider)
images = [np.zeros((96 + 24 * i, 160, 3), np.uint8) for i in range(2)]

def exchange(times):
    for _ in range(times):
        for frame in range(frames):
            segmenter.probability(images[2 * frame % frames == 0])
        segmenter.load(model)
        segmenter.prepare(96, 160)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

print(exchange(10), exchange(exchanges))
"""


@pytest.mark.parametrize("provider", ["cpu", pytest.param("openvino", marks=pytest.mark.needs("openvino"))])
@pytest.mark.parametrize(("exchanges", "frames"), [(10, 4), pytest.param(250, 40, marks=pytest.mark.soak)])
def test_memory_stays_flat(exchanges: int, frames: int, provider: str) -> None:
    """Over exchanges of the model that ships, and frames of two sizes after each. In a process of its own, since what
    the allocator keeps depends on what ran before; it has settled after 10 exchanges, and the engines of 10, were they
    not freed, would be some 200 MB."""
    done = subprocess.run(
        [sys.executable, "-c", EXCHANGES, str(SHIPPED), provider, str(exchanges), str(frames)],
        cwd=SHIPPED.parents[1],
        capture_output=True,
        text=True,
        timeout=900 + exchanges * frames / 10,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(f"{provider}: {done.stdout.strip()} MB resident before and after {exchanges} exchanges")
    before, after = map(float, done.stdout.split())
    assert after - before < 60


def test_a_precision_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="no precision 'int4': choose one of auto, fp32"):
        RoadSegmenter(write_tiny_model(tmp_path / "m.onnx"), "cpu", "int4")


@pytest.mark.needs("onnx")
def test_a_model_that_fails_while_it_runs_is_told_in_a_sentence(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    model = tiny_graph()
    graph = model.graph
    graph.node[-1].output[0] = "whole"
    graph.initializer.append(numpy_helper.from_array(np.array([1, 7, 7], np.int64), "impossible"))
    graph.node.append(helper.make_node("Reshape", ["whole", "impossible"], [model_file.OUTPUT_NAME]))
    path = tmp_path / "m.onnx"
    model_file.write(model, tiny_info(), path)
    with pytest.raises((ProviderError, ModelFileError)) as caught:
        RoadSegmenter(path, "cpu")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_road_mask_is_kittis_rule_at_every_level() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for k in range(256):
        mask = road_mask(levels, k / 255)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, np.where(levels >= k, 255, 0))


@pytest.mark.parametrize("threshold", [0.0, 1e-12, 0.3, 0.5, 0.999, 1.0, 128.5 / 255])
def test_road_mask_between_the_levels(threshold: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(road_mask(levels, threshold), np.where(levels / 255 >= threshold, 255, 0))


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf")])
def test_road_mask_refuses_a_threshold_that_is_no_fraction(threshold: float) -> None:
    with pytest.raises(ValueError, match="a threshold must be a number from 0 to 1"):
        road_mask(np.zeros((2, 2), np.uint8), threshold)
