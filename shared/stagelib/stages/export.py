"""Export a Hugging Face encoder to ONNX with optimum, and check the graph against PyTorch."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, Result, Stage, StageError
from stagelib.imports import uncollected

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

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
    # Half of a checkpoint's bytes may be missing: it is read as fp32. Of a synthetic model only the seed is there.
    memory_factor=2.2,
    memory_mb=900,
)


def run(call: Call, params: Params) -> Result:
    """Write `model.onnx` with free batch size and sequence length; StageError of kind `model` for a model refused."""
    _check_folder(call.input("source"))
    call.progress(0.0, "importing PyTorch and optimum")
    with uncollected():
        import optimum.exporters.onnx.convert  # noqa: F401  # and with it PyTorch, transformers and onnx

    source = _with_weights(call)
    call.progress(0.4, "reading the model")
    model, config = _load(source, params.task)
    described = _describe(model)
    call.progress(0.45, "exporting")
    inputs, outputs = _export(model, config, params.opset, call)
    call.progress(0.85, "checking against PyTorch")
    feeds, expected = _run_torch(model, inputs)
    # The weights are read again as they were written, and needn't be in memory twice. Since optimum wrapped the model's
    # forward, the model refers to itself.
    del model
    gc.collect()
    difference = float(abs(_run_graph(call.output, feeds) - expected).max())
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
    return Result(facts=facts | described)


def _with_weights(call: Call) -> Path:
    """The model's folder; for a synthetic one, another with the weights that its seed makes."""
    from stagelib import synthetic

    source = call.input("source")
    if not synthetic.is_synthetic(source):
        return source
    folder = call.scratch / "source"
    synthetic.materialize(source, folder, lambda done, text: call.progress(0.3 + done / 10, text))
    return folder


def _check_folder(source: Path) -> None:
    from stagelib import synthetic

    if not (source / "config.json").is_file():
        raise StageError(
            "the model's folder holds no config.json", hint="name a Hugging Face model folder", kind="model"
        )
    if not any(source.glob("*.safetensors")) and not synthetic.is_synthetic(source):
        raise StageError("the model's folder holds no *.safetensors", hint="only safetensors are read", kind="model")


def _load(source: Path, task: str) -> tuple[Any, Any]:
    """The PyTorch model with its eager attention, and optimum's description of how to export it."""
    import torch
    from optimum.exporters.onnx import model_configs  # noqa: F401  # registers the architectures
    from optimum.exporters.onnx.config import TextEncoderOnnxConfig
    from optimum.exporters.tasks import TasksManager
    from transformers import AutoConfig

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


def _export(model: Any, config: Any, opset: int, call: Call) -> tuple[list[str], list[str]]:
    """Write the graph with its inputs in their fixed order, and its weights; returns the inputs and outputs in the
    model's order."""
    import onnx
    from optimum.exporters.onnx.convert import export_pytorch

    from stagelib import onnxfiles, torchweights

    path = call.scratch / onnxfiles.ENTRY
    with torchweights.held_back() as weights:
        inputs, outputs = export_pytorch(model, config, opset, path)
    unknown = [name for name in inputs if name not in ORDER]
    if unknown:
        raise StageError(f"the model takes {', '.join(unknown)}: only {', '.join(ORDER)} can be fed", kind="model")
    call.progress(0.7, "writing the graph and its weights")
    graph = onnx.load(str(path))
    torchweights.give_back(graph, weights, call.output)
    if strays := {value.name for value in graph.graph.input} ^ set(inputs):
        raise StageError(f"PyTorch's exporter made other inputs than {', '.join(inputs)}: {', '.join(sorted(strays))}")
    ordered = sorted(graph.graph.input, key=lambda value: ORDER.index(value.name))
    copies = [type(value).FromString(value.SerializeToString()) for value in ordered]
    del graph.graph.input[:]
    graph.graph.input.extend(copies)
    onnxfiles.save(graph, call.output, "fp32")
    onnx.checker.check_model(str(call.output / onnxfiles.ENTRY))
    return inputs, outputs


def _run_torch(model: torch.nn.Module, inputs: list[str]) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.float32]]:
    """One batch with padding, [CHECK_BATCH, CHECK_LENGTH] by input's name, and the model's first output of it.

    StageError where that holds NaN or infinity.
    """
    import numpy as np
    import torch

    generator = np.random.default_rng(0)
    mask = np.ones((CHECK_BATCH, CHECK_LENGTH), np.int64)
    mask[1, CHECK_LENGTH // 2 :] = 0
    known = {
        "input_ids": generator.integers(0, model.config.vocab_size, mask.shape, dtype=np.int64),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
    }
    feeds = {name: known[name] for name in inputs}
    with torch.no_grad():
        output = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})[0].numpy()
    if not np.isfinite(output).all():
        raise StageError(
            "the model computes NaN or infinity in PyTorch already",
            hint="look for weights that are no finite number in its checkpoint",
            kind="model",
        )
    return feeds, output


def _run_graph(folder: Path, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """The first output of the graph that was written, run by ONNX's reference, which takes mapped weights as feeds."""
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    from stagelib import onnxfiles

    model = onnxfiles.load(folder, weights=False)
    inside = []
    weights = {}
    for tensor in model.graph.initializer:
        if onnxfiles.is_apart(tensor):
            weights[tensor.name] = np.asarray(onnxfiles.array(tensor, folder))
        else:
            inside.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(inside)
    evaluator = ReferenceEvaluator(model, new_ops=[_gather_elements()])
    output: NDArray[np.float32] = evaluator.run(None, {**feeds, **weights})[0]
    return output


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
