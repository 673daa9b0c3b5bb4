"""Which of a graph's products shrink, by the real OpenVINO: weights of both orientations, of 16 bits, and none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from portwright.project import this_project

pytestmark = pytest.mark.scenario

SCRIPT = """
import numpy as np
import openvino
from openvino import opset13 as ops
from stagelib.openvinofiles import down_projections

source = ops.parameter([1, 4, 8], np.float32)

def product(left, weight, name, turned=False):
    node = ops.matmul(left, weight, False, turned)
    node.set_friendly_name(name)
    return node

wide = product(source, ops.constant(np.ones((8, 32), np.float32)), "up")
half = ops.convert(ops.constant(np.ones((32, 8), np.float16)), np.float32)
down = product(wide, half, "down")
turned = product(down, ops.constant(np.ones((32, 8), np.float32)), "up_turned", turned=True)
last = product(turned, ops.constant(np.ones((8, 32), np.float32)), "down_turned", turned=True)
square = product(last, ops.constant(np.ones((8, 8), np.float32)), "square")
scores = product(square, ops.transpose(source, ops.constant([0, 2, 1])), "scores")
print(*down_projections(openvino.Model([scores], [source], "products")))
"""


def test_products_that_shrink_are_found_by_their_weights(toolchain_python: Callable[[str], Path]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared)}
    command = [str(toolchain_python("openvino")), "-c", SCRIPT]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.split() == ["down", "down_turned"]
