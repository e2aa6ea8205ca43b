# SPDX-License-Identifier: Apache-2.0
"""Lowered files: the same contract, int8 or fp16 where it pays, answers near the float file's, and measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import fork_server
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported_graphs import to_onnx
from kitti_folder import copied_by_a_mac
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from tiny_model import tiny_info, write_tiny_model

from export.quantize import LARGEST_LOSS, Pictures, QuantizeError, calibration_pictures, quantize
from road_seg_node.inference import RoadSegmenter, model_file, road_mask
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.processor import products_overflow
from road_seg_node.inference.providers import ProviderError
from road_seg_node.shipped import COMPACT
from road_seg_node.synthetic_road.scene import Road
from train.frames.data_error import DataError
from train.frames.kitti import find_frames
from train.network.contract import RoadProbability
from train.network.half_weights import halve
from train.network.model import VGGFCN8
from train.score.metrics import RoadCounts

ROOT = Path(__file__).resolve().parents[2]
ENCODER_CONVOLUTIONS = 13
FRAMES = 6
RESIZE = {"policy": "keep_aspect", "width": 96}


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow untrained network whose scores are large, so that answers are not all alike."""
    torch.manual_seed(1)
    network = VGGFCN8(1 / 16, head="fc").eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("score") and name.endswith("weight"):
                parameter.mul_(30)
    module = RoadProbability(network, RESIZE).eval()
    with torch.inference_mode():
        golden = module(torch.from_numpy(model_file.golden_image())[None])[0].numpy()
    assert np.ptp(golden) > 20, "a flat answer would prove nothing"
    path = tmp_path_factory.mktemp("float") / "road.onnx"
    info = tiny_info(
        name="road",
        architecture=network.architecture,
        resize=RESIZE,
        threshold=float(np.median(golden)) / 255,
        dataset="made up",
        checkpoint_sha256="1" * 64,
        golden=golden,
        doubt_threshold=0.125,
    )
    model_file.write(to_onnx(module), info, path)
    return path


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory, float_file: Path) -> Path:
    """Synthetic roads in KITTI's layout, whose truth is the float file's mask: its own road IoU is 1."""
    folder = tmp_path_factory.mktemp("frames") / "set" / "validation"
    segmenter = RoadSegmenter(float_file, "cpu")
    (folder / "image_2").mkdir(parents=True)
    (folder / "gt_image_2").mkdir()
    for i in range(FRAMES):
        image = Road(i).render(160, 96)[0]
        truth = np.zeros((96, 160, 3), np.uint8)
        truth[..., 0] = road_mask(segmenter.probability(image), segmenter.info.threshold)
        truth[..., 2] = 255
        assert cv2.imwrite(str(folder / "image_2" / f"um_{i:06d}.png"), image)
        assert cv2.imwrite(str(folder / "gt_image_2" / f"um_road_{i:06d}.png"), truth)
    return folder


def exact(file: Path) -> onnxruntime.InferenceSession:
    """A session that computes an int8 file as it is written: dequantised, multiplied in fp32, quantised again."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def answer(session: onnxruntime.InferenceSession, image: np.ndarray) -> np.ndarray:
    return session.run([model_file.OUTPUT_NAME], {model_file.INPUT_NAME: image[np.newaxis]})[0][0]


@pytest.fixture(scope="module")
def eight_bit_file(tmp_path_factory: pytest.TempPathFactory, float_file: Path, frames: Path) -> Path:
    """Quantised as ONNX Runtime does by itself, with weights of all 8 bits, on a processor that computes them right."""
    output = tmp_path_factory.mktemp("eight") / "road.int8.onnx"
    quantize_static(
        float_file,
        output,
        Pictures(sorted((frames / "image_2").iterdir())),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    golden = answer(exact(output), model_file.golden_image())
    model_file.write(onnx.load(output), replace(model_file.read(float_file).info, golden=golden), output)
    return output


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory: pytest.TempPathFactory, float_file: Path, frames: Path) -> Path:
    output = tmp_path_factory.mktemp("int8") / "road.int8.onnx"
    quantize(float_file, output, [frames], [frames], largest_loss=0.1)
    assert [path.name for path in output.parent.iterdir()] == [output.name], "nothing is left beside the file"
    return output


def weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The initializer behind each Conv's weight, through a DequantizeLinear where there is one, by its name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    found = {}
    for node in graph.node:
        if node.op_type == "Conv":
            name = node.input[1]
            found[name.split(".weight")[0]] = tensors[name if name in tensors else made_by[name].input[0]]
    return found


def test_it_is_a_file_like_any_other_with_its_own_golden_answer(float_file: Path, int8_file: Path) -> None:
    before, after = RoadSegmenter(float_file, "cpu"), RoadSegmenter(int8_file, "cpu")
    assert after.golden_difference == 0
    assert (after.info.golden == after.probability(model_file.golden_image())).all()
    assert (after.info.golden != before.info.golden).any()
    for kept in ("name", "dataset", "licence", "checkpoint_sha256", "resize", "threshold", "doubt_threshold"):
        assert getattr(after.info, kept) == getattr(before.info, kept), kept
    assert after.info.architecture == f"{before.info.architecture} int8"
    assert after.info.versions["onnxruntime"]
    assert int8_file.stat().st_size < 0.4 * float_file.stat().st_size


def test_weights_are_int8_per_channel_and_no_float_lies_between(int8_file: Path) -> None:
    graph = onnx.load(int8_file).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    by_type: dict[int, list[str]] = {TensorProto.INT8: [], TensorProto.FLOAT: []}
    for name, tensor in weights(graph).items():
        by_type[tensor.data_type].append(name)
    assert len(by_type[TensorProto.INT8]) == ENCODER_CONVOLUTIONS + 2  # and fc6, fc7
    assert sorted(name.rpartition(".")[2] for name in by_type[TensorProto.FLOAT]) == [
        "score_pool3",
        "score_pool4",
        "score_top",
    ]
    assert not any(node.op_type == "Relu" for node in graph.node), "the uint8 range clips at zero already"
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in made_by:
            activation, weight = made_by[node.input[0]], made_by[node.input[1]]
            assert activation.op_type == weight.op_type == "DequantizeLinear"
            assert tensors[activation.input[2]].data_type == TensorProto.UINT8
            assert tensors[weight.input[1]].dims == tensors[weight.input[0]].dims[:1], "one scale a channel"
            assert not numpy_helper.to_array(tensors[weight.input[2]]).any(), "symmetric"
            largest = np.abs(numpy_helper.to_array(tensors[weight.input[0]]).astype(int)).max()
            assert largest == 64 and 2 * 255 * largest < 2**15, "two products fit into 16 bits"
            after = [reader.op_type for reader in graph.node if node.output[0] in reader.input]
            assert after == ["QuantizeLinear"]


@pytest.mark.parametrize("size", [(375, 1242), (64, 64), (101, 333)])
def test_it_answers_nearly_as_the_float_file(float_file: Path, int8_file: Path, size: tuple[int, int]) -> None:
    image = Road(50).render(size[1], size[0])[0]
    answers = [RoadSegmenter(path, "cpu").probability(image).astype(int) for path in (float_file, int8_file)]
    assert answers[1].shape == size
    assert np.ptp(answers[0]) > 20
    assert abs(answers[0] - answers[1]).mean() < 2


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
@pytest.mark.parametrize("size", [(375, 1242), (64, 64), (101, 333)])
def test_every_processor_computes_what_is_written_in_the_file(
    int8_file: Path, provider: str, size: tuple[int, int]
) -> None:
    image = Road(50).render(size[1], size[0])[0]
    segmenter = RoadSegmenter(int8_file, provider)
    difference = abs(segmenter.probability(image).astype(int) - answer(exact(int8_file), image))
    assert difference.mean() < 0.1 and difference.max() <= 4
    assert segmenter.caveat == ""


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_weights_of_all_8_bits_are_told_where_they_overflow(eight_bit_file: Path, provider: str) -> None:
    """This network's answer is then so far off that it is refused; the sentence is the same."""
    try:
        said = RoadSegmenter(eight_bit_file, provider).caveat
    except ProviderError as refused:
        said = str(refused)
    told = f"the int8 model {eight_bit_file} does not say that its weights fit into 7 bits" in said
    assert told == bool(said) == products_overflow(), said


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_of_an_int8_file_single_pixels_may_be_far_off(int8_file: Path, tmp_path: Path, provider: str) -> None:
    """As where a step is rounded the other way at the road's edge; of a float file none may."""
    info = model_file.read(int8_file).info
    for share, right in ((0.009, True), (0.011, False)):
        golden = info.golden.copy().ravel()
        golden[: int(share * golden.size)] ^= 128
        path = tmp_path / f"{share}.onnx"
        model_file.write(onnx.load(int8_file), replace(info, golden=golden.reshape(info.golden.shape)), path)
        if right:
            assert RoadSegmenter(path, provider).golden_difference > 100
        else:
            with pytest.raises(ProviderError, match=r"and by more than 32 on 1\.\d\d% of its pixels"):
                RoadSegmenter(path, provider)


def test_the_accuracy_before_and_after_is_in_the_metadata(float_file: Path, int8_file: Path, frames: Path) -> None:
    segmenter = RoadSegmenter(int8_file, "cpu")
    metrics = segmenter.info.metrics
    assert (metrics["precision"], metrics["weight_bits"]) == ("int8", 7)
    assert metrics["calibration_frames"] == {"set/validation": FRAMES}
    assert metrics["float_file"] == RoadSegmenter(float_file, "cpu").info.metrics
    assert metrics["float_road_iou"] == {"set/validation": 1.0}
    counts = RoadCounts()
    for image, labels in (frame.read() for frame in find_frames(frames)):
        counts.add(segmenter.probability(image), labels)
    assert metrics["road_iou"] == {"set/validation": round(counts.iou(segmenter.info.threshold), 4)}
    assert 0.9 < metrics["road_iou"]["set/validation"] < 1
    apart = metrics["differences"]["set/validation"]
    assert 0 < apart["mean"] < apart["p99"] + 1 <= apart["largest"] + 1


def test_named_convolutions_stay_in_float(float_file: Path, frames: Path, tmp_path: Path) -> None:
    output = tmp_path / "road.int8.onnx"
    info = quantize(float_file, output, [frames], [frames], keep_float=["network.features.0"], largest_loss=0.1)
    types = {name: tensor.data_type for name, tensor in weights(onnx.load(output).graph).items()}
    assert types["network.features.0"] == TensorProto.FLOAT
    assert types["network.features.2"] == TensorProto.INT8
    assert info.metrics["kept_float"] == ["network.features.0"]


def test_fp16_keeps_bytes_outside_and_fp32_around_the_network(float_file: Path, frames: Path, tmp_path: Path) -> None:
    output = tmp_path / "road.fp16.onnx"
    quantize(float_file, output, [frames], precision="fp16")  # within LARGEST_LOSS
    before, after = RoadSegmenter(float_file, "cpu"), RoadSegmenter(output, "cpu")
    image = Road(50).render(333, 101)[0]
    assert abs(before.probability(image).astype(int) - after.probability(image)).max() <= 3
    assert after.info.metrics["precision"] == "fp16"
    assert [model_file.read(file).precision for file in (float_file, output)] == ["fp32", "fp16"]

    graph = onnx.shape_inference.infer_shapes(onnx.load(output)).graph
    types = {name: tensor.data_type for name, tensor in weights(graph).items()}
    halved = [name for name, kind in types.items() if kind == TensorProto.FLOAT16]
    assert len(halved) == ENCODER_CONVOLUTIONS + 2
    assert not any("score" in name for name in halved)
    tensor_types = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    for node in graph.node:
        if node.op_type in ("Resize", "Sub", "ConvTranspose", "Sigmoid", "Round"):
            assert tensor_types[node.input[0]] == TensorProto.FLOAT, node.op_type
            written_by = next(maker for maker in graph.node if node.input[0] in maker.output)
            rounded = written_by.op_type == "Cast" and tensor_types.get(written_by.input[0]) == TensorProto.FLOAT16
            assert not rounded, f"{node.op_type} reads what went through fp16"


def test_a_file_with_weights_in_half_precision_is_converted_as_any_other(
    float_file: Path, frames: Path, tmp_path: Path
) -> None:
    model = onnx.load(float_file)
    halve(model)
    half = tmp_path / "half.onnx"
    model_file.write(model, model_file.read(float_file).info, half)
    info = quantize(half, tmp_path / "int8.onnx", [frames], [frames], largest_loss=1.0)
    assert info.architecture.endswith(" int8")
    assert model_file.read(tmp_path / "int8.onnx").quantized
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds and onnx.TensorProto.FLOAT16 not in kinds


def test_what_loses_too_much_is_not_written(float_file: Path, frames: Path, tmp_path: Path) -> None:
    """Calibrated on black frames, the ranges are wrong for any other."""
    black = tmp_path / "black"
    black.mkdir()
    assert cv2.imwrite(str(black / "0.png"), np.zeros((96, 160, 3), np.uint8))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(QuantizeError, match=r"loses 0\.\d+ of road IoU .*--keep-float: .* network\.features\.0, "):
        quantize(float_file, out / "road.onnx", [frames], [black])
    assert list(out.iterdir()) == []


def test_what_cannot_be_quantised_is_a_sentence(
    float_file: Path, int8_file: Path, frames: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.onnx"
    with pytest.raises(ModelFileError, match=r"missing\.onnx does not exist"):
        quantize(tmp_path / "missing.onnx", output, [frames], [frames])
    foreign = tmp_path / "foreign.onnx"
    model = onnx.load(float_file)
    del model.metadata_props[:]
    onnx.save(model, foreign)
    with pytest.raises(ModelFileError, match="does not follow the model contract"):
        quantize(foreign, output, [frames], [frames])
    with pytest.raises(QuantizeError, match=r"road\.int8\.onnx is in int8 or fp16 already"):
        quantize(int8_file, output, [frames], [frames])
    with pytest.raises(QuantizeError, match="no convolution that ends in a ReLU"):
        quantize(write_tiny_model(tmp_path / "tiny.onnx"), output, [frames], [frames])
    with pytest.raises(QuantizeError, match=r"--calibration .*nowhere cannot be read: No such file"):
        quantize(float_file, output, [frames], [frames, tmp_path / "nowhere"])
    with pytest.raises(QuantizeError, match="needs --calibration"):
        quantize(float_file, output, [frames])
    with pytest.raises(DataError, match="nowhere is not a folder"):
        quantize(float_file, output, [tmp_path / "nowhere"], [frames])
    with pytest.raises(QuantizeError, match=r"no convolution 'fc8' .* it has network\.features\.0, "):
        quantize(float_file, output, [frames], [frames], keep_float=["fc8"])
    with pytest.raises(QuantizeError, match="is the model .* itself"):
        quantize(float_file, float_file, [frames], [frames])
    (tmp_path / "file").touch()
    with pytest.raises(QuantizeError, match=r"file/out\.onnx cannot be written"):
        quantize(float_file, tmp_path / "file" / "out.onnx", [frames], [frames])
    assert not output.exists()


def test_calibration_pictures_are_not_what_is_hidden(tmp_path: Path) -> None:
    for number in (10, 9):
        assert cv2.imwrite(str(tmp_path / f"frame{number}.PNG"), np.zeros((8, 8, 3), np.uint8))
    copied_by_a_mac(tmp_path)
    assert [path.name for path in calibration_pictures(tmp_path)] == ["frame9.PNG", "frame10.PNG"]


def test_the_program_ends_in_a_sentence_and_not_in_a_traceback(tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    options = ("--model", missing, "--output", tmp_path / "out.onnx", "--calibration", tmp_path)
    result = fork_server.TRAINER.run(ROOT / "export" / "quantize.py", *options, "--validation", tmp_path, timeout=300)
    assert result.returncode == 1
    assert result.stderr.startswith(f"quantize.py: the model {missing} does not exist")
    assert len(result.stderr.splitlines()) == 1


def test_the_shipped_model_keeps_its_accuracy(data_folder: Path, tmp_path: Path) -> None:
    calibration = [data_folder / "camvid_road" / "training", data_folder / "idd_road" / "training"]
    validation = data_folder / "camvid_road" / "validation"
    info = quantize(ROOT / COMPACT, tmp_path / "road.onnx", [validation], calibration)
    name = "camvid_road/validation"
    assert info.metrics["float_road_iou"][name] - info.metrics["road_iou"][name] <= LARGEST_LOSS
