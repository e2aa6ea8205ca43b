# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to the one ONNX file that the node runs."""
