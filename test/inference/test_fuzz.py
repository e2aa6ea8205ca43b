# SPDX-License-Identifier: Apache-2.0
"""Damaged model files: each is refused with a sentence or answers right; none crashes, hangs or answers wrongly.

Runs in a process of its own, since a crash would end the test with it. `make soak` tries ten times as many files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = 50  # of each kind, on each provider

FUZZ = """
import random, sys
from pathlib import Path
import numpy as np
from tiny_model import expected_probability
from road_seg_node.inference import onnx_bytes
from road_seg_node.inference.model_file import ModelFileError
from road_seg_node.inference.providers import ProviderError
from road_seg_node.inference import RoadSegmenter

whole, other = (Path(name).read_bytes() for name in sys.argv[1:3])
path, count, provider, sealed = Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6] == "sealed"
seal = len(onnx_bytes.metadata_entry("road_seg.content_sha256", "0" * 64))
if not sealed:
    whole, other = whole[:-seal], other[:-seal]
image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
right = expected_probability(image)
choose = random.Random(5)
refused = 0
for turn in range(count):
    data = bytearray(whole)
    kind = turn % 4
    if kind == 0:  # bits flipped
        for _ in range(choose.choice((1, 1, 1, 4))):
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
    elif kind == 1:  # cut short
        del data[choose.randrange(len(data)):]
    elif kind == 2:  # a part from elsewhere in the file
        start, size = choose.randrange(len(data)), choose.randrange(1, 64)
        source = choose.randrange(len(data))
        data[start:start + size] = data[source:source + size]
    else:  # the end, or the beginning, of another model: metadata exchanged
        cut = choose.randrange(len(data))
        data = bytearray(whole[:cut] + other[cut:] if choose.random() < 0.5 else other[:cut] + whole[cut:])
    path.write_bytes(data)
    print(turn, file=sys.stderr)
    try:
        segmenter = RoadSegmenter(path, provider)
        answer = segmenter.probability(image)
    except (ModelFileError, ProviderError) as error:
        assert str(path) in str(error) and "\\n" not in str(error), (turn, str(error))
        refused += 1
        continue
    assert answer.shape == right.shape, turn
    if sealed:
        np.testing.assert_array_equal(answer, right, err_msg=str(turn))
print(refused)
"""


@pytest.mark.parametrize("provider", ["cpu", pytest.param("openvino", marks=pytest.mark.needs("openvino"))])
@pytest.mark.parametrize("kind", ["sealed", "unsealed"])
@pytest.mark.parametrize("files", [FILES, pytest.param(10 * FILES, marks=pytest.mark.soak)])
def test_damaged_files(tmp_path: Path, files: int, provider: str, kind: str) -> None:
    """A file that ends with its hash answers as it did or is refused. One without, as other writers may leave it, has
    only its golden answer to prove it: of that one just refusals without a crash are asked."""
    whole, other = write_tiny_model(tmp_path / "a.onnx"), write_tiny_model(tmp_path / "b.onnx", threshold=0.75)
    arguments = [whole, other, tmp_path / "m.onnx", files, provider, kind]
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "test")])},
        capture_output=True,
        text=True,
        timeout=60 + 4 * files,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 < int(done.stdout) <= files
