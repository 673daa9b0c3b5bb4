"""Export a Hugging Face encoder to ONNX with optimum, and check the graph against PyTorch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, Result, Stage, StageError

if TYPE_CHECKING:
    import onnx
    import torch

ORDER = ("input_ids", "attention_mask", "token_type_ids")
OPSETS = range(14, 21)
CHECK_BATCH, CHECK_LENGTH = 2, 8
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Params:
    """How to export."""

    task: str = "feature-extraction"
    """optimum's name of what the model is for: it decides which head is exported and what the outputs are."""
    opset: int = 17
    """Version of the ONNX operator set. 17 is the first with LayerNormalization as one node."""

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise ValueError(f"opset must be {OPSETS[0]} to {OPSETS[-1]}")


STAGE = Stage(
    summary="export a Hugging Face encoder to ONNX",
    inputs=("source",),
    makes="onnx",
    params=Params,
    needs=("torch", "transformers", "optimum-onnx", "onnx"),
    threads=1,
    memory_factor=4.5,
    memory_mb=400,
)


def run(call: Call, params: Params) -> Result:
    """Write `model.onnx` with free batch size and sequence length; StageError of kind `model` for a model refused."""
    source = _with_weights(call)
    call.progress(0.0, "importing PyTorch and optimum")
    from optimum.exporters.onnx.convert import export_pytorch

    from stagelib import onnxfiles

    model, config = _load(source, params.task, call)
    call.progress(0.35, "exporting")
    target = call.scratch / "exported" / onnxfiles.ENTRY
    target.parent.mkdir()
    inputs, outputs = export_pytorch(model, config, params.opset, target)
    call.progress(0.75, "checking against PyTorch")
    graph = _settle(target, call.output, inputs)
    difference = _difference(graph, model)
    call.progress(1.0)
    if not difference <= TOLERANCE:
        raise StageError(f"the exported graph differs from PyTorch by {difference:.2e}, more than {TOLERANCE:.0e}")
    facts = {
        "task": params.task,
        "opset": params.opset,
        "max_abs_diff_to_torch": difference,
        "inputs": inputs,
        "outputs": outputs,
    }
    return Result(facts=facts | _describe(model))


def _with_weights(call: Call) -> Path:
    """The model's folder; for a synthetic one, another with the weights that its seed makes."""
    from stagelib import synthetic

    source = call.input("source")
    if synthetic.is_synthetic(source):
        folder = call.scratch / "source"
        synthetic.materialize(source, folder, lambda done, text: call.progress(done / 10, text))
        return folder
    _check_folder(source)
    return source


def _check_folder(source: Path) -> None:
    if not (source / "config.json").is_file():
        raise StageError(
            "the model's folder holds no config.json", hint="name a Hugging Face model folder", kind="model"
        )
    if not any(source.glob("*.safetensors")):
        raise StageError("the model's folder holds no *.safetensors", hint="only safetensors are read", kind="model")


def _load(source: Path, task: str, call: Call) -> tuple[Any, Any]:
    """The PyTorch model with its eager attention, and optimum's description of how to export it."""
    import torch
    from optimum.exporters.onnx import model_configs  # noqa: F401  # registers the architectures
    from optimum.exporters.onnx.config import TextEncoderOnnxConfig
    from optimum.exporters.tasks import TasksManager
    from transformers import AutoConfig

    call.progress(0.15, "reading the model")
    with _model_errors("can't read the model's config.json"):
        settings = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    kind = settings.model_type
    with _model_errors(f"optimum can't export a model of type {kind}"):
        tasks = TasksManager.get_supported_tasks_for_model_type(kind, "onnx", library_name="transformers")
    if task not in tasks:
        raise StageError(
            f"a model of type {kind} can't serve the task {task!r}", hint=f"known: {', '.join(tasks)}", kind="model"
        )
    if settings.is_encoder_decoder or getattr(settings, "is_decoder", False):
        raise StageError(f"the model ({kind}) is no encoder: it has a decoder", kind="model")
    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model_type=kind, task=task, library_name="transformers"
    )
    config = constructor(settings)
    if not isinstance(config, TextEncoderOnnxConfig):
        raise StageError(f"the model ({kind}) is no text encoder", kind="model")
    cls = TasksManager.get_model_class_for_task(task, model_type=kind, library="transformers")
    # Scaled-dot-product attention would leave IsNaN and Where in every layer of the graph.
    options = {"attn_implementation": "eager", "use_safetensors": True, "dtype": torch.float32}
    with _model_errors("can't read the model's weights"):
        model, report = cls.from_pretrained(
            source, local_files_only=True, trust_remote_code=False, output_loading_info=True, **options
        )
    _check_weights(report)
    return model.eval(), config


def _check_weights(report: dict[str, Any]) -> None:
    """Weights that the files lack are drawn at random, with only a warning. The pooler's don't reach the outputs."""
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise StageError(f"the model's files lack {len(missing)} of its weights, {missing[0]} first", kind="model")


@contextmanager
def _model_errors(what: str) -> Iterator[None]:
    """Turn what transformers and safetensors raise for an unusable model into a StageError of kind `model`."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        # transformers goes on with advice for an environment of one's own; the toolchain's is locked.
        said = " ".join(str(error).split()).split(". ")[0][:300]
        raise StageError(f"{what}: {said}", kind="model") from error


def _settle(exported: Path, folder: Path, inputs: list[str]) -> onnx.ModelProto:
    """Write what was exported with the inputs in their fixed order, as stages keep models, and describe it."""
    import onnx

    from stagelib import onnxfiles

    unknown = [name for name in inputs if name not in ORDER]
    if unknown:
        raise StageError(f"the model takes {', '.join(unknown)}: only {', '.join(ORDER)} can be fed", kind="model")
    model = onnx.load(str(exported))
    ordered = sorted(model.graph.input, key=lambda value: ORDER.index(value.name))
    copies = [type(value).FromString(value.SerializeToString()) for value in ordered]
    del model.graph.input[:]
    model.graph.input.extend(copies)
    onnxfiles.save(model, folder, "fp32")
    onnx.checker.check_model(str(folder / onnxfiles.ENTRY))
    return model


def _difference(graph: onnx.ModelProto, model: torch.nn.Module) -> float:
    """Largest absolute difference of the graph, run by ONNX's reference, to PyTorch, on one batch with padding."""
    import numpy as np
    import torch
    from onnx.reference import ReferenceEvaluator

    generator = np.random.default_rng(0)
    mask = np.ones((CHECK_BATCH, CHECK_LENGTH), np.int64)
    mask[1, CHECK_LENGTH // 2 :] = 0
    vocabulary = model.config.vocab_size
    known = {
        "input_ids": generator.integers(0, vocabulary, mask.shape, dtype=np.int64),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
    }
    feeds = {value.name: known[value.name] for value in graph.graph.input}
    result = ReferenceEvaluator(graph, new_ops=[_gather_elements()]).run(None, feeds)[0]
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})[0].numpy()
    return float(np.abs(result - expected).max())


def _gather_elements() -> Any:
    """GatherElements for ONNX's reference, whose own refuses an axis that counts from the end, and more than 64 rows:
    DeBERTa's relative positions have both."""
    import numpy as np
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):  # type: ignore[misc]  # onnx isn't where types are checked
        def _run(self, data: Any, indices: Any, axis: int | None = None) -> tuple[Any]:
            along = (axis or 0) % data.ndim
            # Other dimensions of the indices may be smaller than those of the data.
            cut = tuple(slice(None) if index == along else slice(size) for index, size in enumerate(indices.shape))
            return (np.take_along_axis(data[cut], indices, along),)

    return GatherElements


def _describe(model: Any) -> dict[str, Any]:
    settings = json.loads(model.config.to_json_string())
    kept = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"parameters": parameters, "config": {name: settings[name] for name in kept if name in settings}}
