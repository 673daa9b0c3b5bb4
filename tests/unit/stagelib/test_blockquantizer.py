"""The quantizer by blocks beside an ONNX Runtime that has other insides than the one it was written for."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stagelib.api import StageError


class Model:
    """`ONNXModel`, as far as the quantizer leans on it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def initializer(self) -> list[Any]:
        return [SimpleNamespace(name="weight")]

    def topological_sort(self) -> None:
        pass


class Stock:
    """`QDQQuantizer`, as far as ours leans on it: one weight of two channels, by columns."""

    asks = True
    scale_of = staticmethod(lambda low, high, *_, **__: (0, np.float32(2 * max(-low, high) / 254)))

    def __init__(self, **_: Any) -> None:
        self.tensors_to_quantize = {"weight": SimpleNamespace(axis=1)}
        self.quantized_value_map = {"weight": SimpleNamespace(original=SimpleNamespace(q_name="weight_quantized"))}
        self.min_real_range = None
        self.model = Model(SimpleNamespace(graph=SimpleNamespace(initializer=[])))

    def quantize_model(self) -> None:
        if self.asks:
            self._calc_initializer_quant_params()

    def _calc_initializer_quant_params(self) -> dict[str, Any]:
        return {"weight": {"axis": 1, "quant_type": 3}}


class Weight:
    shape = (3, 2)

    def extremes(self, axis: int) -> tuple[Any, Any]:
        assert axis == 1
        return np.array([-2, -1], np.float32), np.array([1, 3], np.float32)


@pytest.fixture
def quantizer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, over a stand-in for what it imports."""

    def stand_in(name: str, **names: Any) -> None:
        module = ModuleType(name)
        for key, value in names.items():
            setattr(module, key, value)
        monkeypatch.setitem(sys.modules, name, module)

    stand_in("onnxruntime", __version__="9.9")
    stand_in("onnxruntime.quantization", QDQQuantizer=type("QDQQuantizer", (Stock,), {}))
    stand_in("onnxruntime.quantization.onnx_model", ONNXModel=Model)
    stand_in(
        "onnxruntime.quantization.quant_utils",
        add_infer_metadata=lambda _: None,
        get_qmin_qmax_for_qType=lambda *_, **__: (np.array(-127, np.int8), np.array(127, np.int8)),
        compute_scale_zp=lambda *given, **how: Stock.scale_of(*given, **how),  # noqa: PLW0108 - tests replace it
    )
    stand_in("stagelib.weightless", stand_in=lambda *_: None)
    monkeypatch.setattr("stagelib.weightless", sys.modules["stagelib.weightless"], raising=False)
    monkeypatch.delitem(sys.modules, "stagelib.blockquantizer", raising=False)
    module = importlib.import_module("stagelib.blockquantizer")
    monkeypatch.delitem(sys.modules, "stagelib.blockquantizer")
    return module


def written(module: Any, tmp_path: Any) -> Any:
    return module.Quantizer(None, {"weight": Weight()}).written(tmp_path)


def test_the_release_that_is_locked_is_no_fault(quantizer: Any, tmp_path: Any) -> None:
    assert written(quantizer, tmp_path).graph.initializer == []


def test_a_release_without_the_method_is_refused_before_anything(quantizer: Any, monkeypatch: Any) -> None:
    monkeypatch.delattr(Stock, quantizer.METHOD)
    with pytest.raises(StageError, match=r"ONNX Runtime 9.9 .*has no _calc_initializer_quant_params"):
        quantizer.Quantizer(None, {"weight": Weight()})


def test_a_release_that_never_asks_is_refused(quantizer: Any, monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setattr(Stock, "asks", False)
    with pytest.raises(StageError, match="doesn't ask"):
        written(quantizer, tmp_path)


def test_a_release_that_computes_scales_otherwise_is_refused(quantizer: Any, monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setattr(Stock, "scale_of", staticmethod(lambda *_, **__: (0, np.float32(0.5))))
    with pytest.raises(StageError, match=r"scales a channel by 0.5, and stagelib.bigweights by 0.0157"):
        written(quantizer, tmp_path)
