"""The five published recipes, ours by name and the same in the configuration of the peer, Microsoft's Olive.

Steps and parameters are those of its published recipes for `neuralmind/bert-base-portuguese-cased`. Left out on both
sides is what measures: its evaluators, and with them the session tuning of `trtrtx`, which can't do without. Model and
texts are local ones, so that both sides read the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "bert-base-portuguese-cased"
SHAPE = (1, 128)
TUNED_SAMPLES = 300
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
USER_SCRIPT = "user_script.py"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published recipe, on both sides."""

    name: str
    target: str
    """Ours, whose recipe of this name it is."""
    provider: str
    device: str
    passes: dict[str, Any]
    """The peer's, in order."""
    needs: tuple[str, ...] = ("olive-ai", "onnxruntime", "datasets")
    """Distributions that the peer must have beside each other."""
    task: str = "feature-extraction"
    padded: bool = False
    """Whether a script of the recipe's own pads its many texts, instead of the peer's container its few."""
    host: str = ""
    """Where the peer runs its passes, if it isn't what it makes the model for: an execution provider."""

    @property
    def recipe(self) -> str:
        """Our recipe's name."""
        return f"{NAME}_{self.name}"


def _conversion(opset: int) -> dict[str, Any]:
    return {"type": "OnnxConversion", "target_opset": opset, "save_as_external_data": True}


def _surgery(*surgeons: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "GraphSurgeries", "surgeries": list(surgeons), **more}


def _quantization(**more: Any) -> dict[str, Any]:
    return {
        "type": "OnnxStaticQuantization",
        "data_config": "texts",
        "activation_type": "uint16",
        "precision": "uint8",
        "save_as_external_data": True,
        **more,
    }


def _fusion(on: tuple[str, ...], off: tuple[str, ...], **more: Any) -> dict[str, Any]:
    options = {**dict.fromkeys(on, True), **dict.fromkeys(off, False)}
    return {
        "type": "OrtTransformersOptimization",
        "model_type": "bert",
        "optimization_options": options,
        "save_as_external_data": True,
        **more,
    }


FIXED = {
    "type": "DynamicToFixedShape",
    "dim_param": ["batch_size", "sequence_length"],
    "dim_value": list(SHAPE),
}
SOME_FUSED = _fusion(
    ("enable_gelu", "enable_layer_norm"),
    ("enable_bias_gelu", "enable_skip_layer_norm", "enable_bias_skip_layer_norm", "enable_attention"),
    opt_level=1,
)
ATTENTION_FUSED = _fusion(
    (
        "enable_gelu",
        "enable_layer_norm",
        "enable_attention",
        "use_multi_head_attention",
        "enable_shape_inference",
        "enable_packed_qkv",
        "enable_packed_kv",
        "enable_rotary_embeddings",
    ),
    (
        "enable_skip_layer_norm",
        "enable_embed_layer_norm",
        "enable_bias_skip_layer_norm",
        "enable_bias_gelu",
        "enable_gelu_approximation",
        "enable_qordered_matmul",
        "enable_gemm_fast_gelu",
        "enable_nhwc_conv",
        "enable_group_norm",
        "enable_bias_splitgelu",
        "enable_bias_add",
    ),
    opt_level=0,
    float16=True,
    use_gpu=True,
    keep_io_types=False,
)
MASK = {"surgeon": "ReplaceAttentionMaskValue"}

PUBLISHED = (
    Published(
        name="qdq_amd",
        target="vitisai",
        provider="VitisAIExecutionProvider",
        device="npu",
        passes={
            "conversion": _conversion(17),
            "transformer_optimizer": SOME_FUSED,
            "dynamic_shape_to_fixed": FIXED,
            "surgery": _surgery(MASK),
            "quantization": _quantization(),
            "metadata": {
                "type": "VitisAIAddMetaData",
                "config_meta_data_keys": ["architectures", "model_type"],
                "activation_type": "uint16",
                "weight_type": "uint8",
                "quant_type": "OnnxStaticQuantization",
            },
        },
    ),
    Published(
        name="qdq_qnn",
        target="qnn",
        provider="QNNExecutionProvider",
        device="npu",
        passes={
            "conversion": _conversion(20),
            "to_fixed_shape": FIXED,
            "surgery": _surgery({**MASK, "replacement": -100.0}, {"surgeon": "MatMulAddToGemm"}),
            "transformer_optimizer": SOME_FUSED,
            "quantization": _quantization(quant_preprocess=True),
        },
    ),
    Published(
        name="context_ov_static",
        target="openvino",
        padded=True,
        provider="OpenVINOExecutionProvider",
        device="npu",
        needs=("olive-ai", "optimum-intel", "openvino", "nncf"),
        task="fill-mask",
        passes={
            "optimum_convert": {
                "type": "OpenVINOOptimumConversion",
                "extra_args": {"device": "npu", "task": "feature-extraction"},
            },
            "io_update": {
                "type": "OpenVINOIoUpdate",
                "input_shapes": [list(SHAPE) for _ in INPUTS],
                "static": True,
            },
            "ov_quantize": {
                "type": "OpenVINOQuantization",
                "target_device": "npu",
                "data_config": "texts",
                "model_type": "TRANSFORMER",
                "user_script": USER_SCRIPT,
                "transform_fn": "as_feed",
            },
            "encapsulation": {"type": "OpenVINOEncapsulation", "target_device": "npu", "ov_version": "2025.1"},
        },
    ),
    Published(
        name="trtrtx",
        target="trt",
        provider="NvTensorRTRTXExecutionProvider",
        device="gpu",
        passes={
            "conversion": _conversion(17),
            "onnx_float_to_float16": {"type": "OnnxFloatToFloat16", "save_as_external_data": True},
            "dynamic_shape_to_fixed": FIXED,
            "surgery": _surgery(MASK, save_as_external_data=True),
        },
    ),
    Published(
        name="dml",
        target="dml",
        provider="DmlExecutionProvider",
        device="gpu",
        host="CPUExecutionProvider",
        passes={"conversion": _conversion(20), "transformer_optimizer": ATTENTION_FUSED},
    ),
)


def script(model: Path) -> str:
    """The peer's user script for the OpenVINO recipe: its texts, padded, one dictionary a text."""
    return f"""\
import json

import numpy as np
from olive.data.registry import Registry
from transformers import AutoTokenizer

NAMES = {INPUTS!r}


@Registry.register_dataset()
def padded_texts(data_name, split, max_samples):
    with open(data_name, encoding="utf-8") as lines:
        texts = list(dict.fromkeys(json.loads(line)["text"] for line in lines))[:max_samples]
    tokenizer = AutoTokenizer.from_pretrained({str(model)!r})
    rows = tokenizer(texts, padding="max_length", max_length={SHAPE[1]}, truncation=True)
    return [{{name: rows[name][row] for name in NAMES}} for row in range(len(texts))]


def as_feed(item):
    return {{name: np.asarray(item[name], dtype=np.int64).reshape(1, -1) for name in NAMES}}
"""


def write(published: Published, model: Path, texts: Path, folder: Path, cache: Path) -> Path:
    """Write the peer's configuration, and the script it names, into `folder`; the file to run.

    What it makes goes to `folder`/model, what it keeps for other recipes to `cache`.
    """
    systems = {"target": _system(published.device, published.provider)}
    if published.host:
        systems["host"] = _system("cpu", published.host)
    config = {
        "input_model": {"type": "HfModel", "model_path": str(model), "task": published.task},
        "systems": systems,
        "data_configs": [_padded(texts) if published.padded else _premises(texts)],
        "passes": published.passes,
        "host": "host" if published.host else "target",
        "target": "target",
        "cache_dir": str(cache),
        "output_dir": str(folder / "model"),
        "evaluate_input_model": False,
    }
    (folder / USER_SCRIPT).write_text(script(model), encoding="utf-8")
    path = folder / "recipe.json"
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    return path


def _system(device: str, provider: str) -> dict[str, Any]:
    return {"type": "LocalSystem", "accelerators": [{"device": device, "execution_providers": [provider]}]}


def _premises(texts: Path) -> dict[str, Any]:
    return {
        "name": "texts",
        "type": "HuggingfaceContainer",
        "load_dataset_config": {"data_name": "json", "data_files": str(texts), "split": "train"},
        "pre_process_data_config": {
            "input_cols": ["premise"],
            "padding": "max_length",
            "max_length": SHAPE[1],
            "max_samples": 10,
        },
        "dataloader_config": {"batch_size": SHAPE[0]},
    }


def _padded(texts: Path) -> dict[str, Any]:
    return {
        "name": "texts",
        "user_script": USER_SCRIPT,
        "load_dataset_config": {
            "type": "padded_texts",
            "data_name": str(texts),
            "split": "train",
            "max_samples": TUNED_SAMPLES,
        },
        "dataloader_config": {"batch_size": SHAPE[0], "drop_last": True},
    }
