"""What is written for Vitis AI: the model's own words from config.json, the types from the graph itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stagelib.api import StageError
from stagelib.quantized import INTEGERS, TYPES, precision, quantized_types
from stagelib.stages.metadata import NAMES, from_config, named, read_config

NUMBERS = {name: number for number, name in TYPES.items()}


def node(kind: str, *inputs: str) -> SimpleNamespace:
    return SimpleNamespace(op_type=kind, input=list(inputs), output=[f"{inputs[0]}/{kind}"])


def tensor(name: str, kind: int, *dims: int) -> SimpleNamespace:
    return SimpleNamespace(name=name, data_type=kind, dims=list(dims))


def graph(nodes: list[SimpleNamespace], tensors: list[SimpleNamespace]) -> Any:
    return SimpleNamespace(node=nodes, initializer=tensors)


def test_types_are_those_of_most_of_the_weights_and_activations() -> None:
    quantized = graph(
        [
            node("DequantizeLinear", "weight", "scale", "zero"),
            node("DequantizeLinear", "other", "scale", "zero"),
            node("DequantizeLinear", "embeddings", "scale", "zero16"),
            node("Gather", "embeddings/DequantizeLinear", "ids"),
            node("DequantizeLinear", "bias", "scale"),
            node("QuantizeLinear", "x", "scale", "zero16"),
            node("DequantizeLinear", "xq", "scale", "zero16"),
            node("Gemm", "x", "weight/DequantizeLinear", "bias/DequantizeLinear"),
            node("MatMul", "x", "other/DequantizeLinear"),
        ],
        [
            tensor("weight", NUMBERS["int8"], 4, 4),
            tensor("other", NUMBERS["uint8"], 4, 3),
            tensor("embeddings", NUMBERS["int16"], 999, 4),
            tensor("bias", 6, 99, 99),  # int32
            tensor("zero16", NUMBERS["int16"]),
        ],
    )
    assert quantized_types(quantized) == ({"int16": 1}, {"int8": 16, "uint8": 12})
    assert precision(quantized) == "int16/int8"


def test_a_float_graph_has_no_types() -> None:
    assert precision(graph([node("MatMul", "x", "w")], [tensor("w", 1, 4, 4)])) == "fp32"


def test_a_default_zero_point_is_no_type() -> None:
    assert precision(graph([node("QuantizeLinear", "x", "scale")], [])) == "fp32"


def test_every_integer_has_olives_name() -> None:
    assert set(NAMES) == set(INTEGERS.values())
    assert NAMES["uint16"] == "QUInt16"
    assert named("weight_dtype", Counter(int8=3, uint8=1)) == {"weight_dtype": "QInt8"}
    assert named("weight_dtype", Counter()) == {}


def test_a_type_that_olive_has_no_name_for_is_no_silence() -> None:
    quantized = graph(
        [
            node("DequantizeLinear", "weight", "scale", "zero"),
            node("MatMul", "x", "weight/DequantizeLinear"),
        ],
        [tensor("weight", NUMBERS["float8e4m3fn"], 4, 4)],
    )
    _, weights = quantized_types(quantized)
    with pytest.raises(StageError, match="no name for float8e4m3fn, which is weight_dtype"):
        named("weight_dtype", weights)


def test_values_are_written_as_olive_writes_them() -> None:
    config = {"architectures": ["BertModel", "Other"], "model_type": "bert", "hidden_size": 384, "gone": None}
    assert from_config(config, ("architectures", "model_type", "hidden_size", "gone", "never")) == {
        "architectures": "BertModel, Other",
        "model_type": "bert",
        "hidden_size": "384",
    }


@pytest.mark.parametrize(("text", "word"), [(None, "has no config.json"), ("{", "not JSON"), ("[]", "no JSON object")])
def test_a_model_without_a_config_is_named(tmp_path: Path, text: str | None, word: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(StageError, match=word) as caught:
        read_config(tmp_path)
    assert caught.value.kind == "model"
