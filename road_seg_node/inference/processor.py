# SPDX-License-Identifier: Apache-2.0
"""Whether this processor multiplies bytes exactly."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
EXACT_BITS = 7  # of int8 weights whose products overflow on no processor
_VNNI = {"avx512_vnni", "avx_vnni"}  # processors with AMX have the first one too


def products_overflow(cpuinfo: Path = CPUINFO) -> bool:
    """Whether products of uint8 activations with int8 weights may come out wrong: on x86 without VNNI.

    ONNX Runtime and OpenVINO multiply there by VPMADDUBSW, which adds two products in 16 bits and saturates at 32767.
    Two of weights of EXACT_BITS fit (2 * 255 * 64 = 32640), two of weights of all 8 bits need not (2 * 255 * 127). VNNI
    adds in 32 bits. ARM, whose processors list no x86 "flags", is exact, and so is taken what does not tell.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    return flags is not None and not _VNNI & set(flags)
