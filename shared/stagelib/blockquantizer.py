"""ONNX Runtime's QDQ quantizer on a graph without its big weights.

The quantizer decides what is quantized, how, and by which scale; of a weight it is given the smallest and the largest
number alone. The weights themselves are quantized after it, by what it decided, each straight from one file to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
from onnxruntime.quantization import QDQQuantizer
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.quant_utils import add_infer_metadata, compute_scale_zp, get_qmin_qmax_for_qType

from stagelib import bigweights, boundless, onnxfiles, weightless
from stagelib.api import StageError

if TYPE_CHECKING:
    import onnx

    from stagelib.bigweights import Weight


METHOD = "_calc_initializer_quant_params"


class Quantizer(QDQQuantizer):  # type: ignore[misc]  # onnxruntime has no types
    """`QDQQuantizer` for a model in which the initializers named in `weights` are stand-ins (see `weightless`).

    It leans on one method beneath the public ones, and on how that computes a scale. StageError, before anything is
    quantized, where another release of ONNX Runtime has it otherwise than the one that the toolchain locks.
    """

    model: Any

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, Weight], **options: Any) -> None:
        if not hasattr(QDQQuantizer, METHOD):
            raise _other_release(f"its QDQQuantizer has no {METHOD}")
        self._weights = weights
        self._measured: dict[str, Any] = {}
        # Without this mark it writes the model to a file and infers shapes itself.
        add_infer_metadata(model)
        super().__init__(model=model, reduce_range=False, nodes_to_quantize=[], **options)
        self.model = _Graph(self.model.model)

    def _calc_initializer_quant_params(self) -> dict[str, Any]:
        """Scales and zero points of all weights. QDQQuantizer asks when it knows which to quantize, by which axis."""
        extremes = {}
        for tensor in self.model.initializer():
            info = self.tensors_to_quantize.get(tensor.name)
            if info and tensor.name in self._weights:
                low, high = self._weights[tensor.name].extremes(info.axis)
                boundless.refuse_weight(tensor.name, low, high)
                weightless.stand_in(tensor, self._weights[tensor.name], info.axis, (low.min(), high.max()))
                extremes[tensor.name] = low, high
        found: dict[str, Any] = super()._calc_initializer_quant_params()
        for name, (low, high) in extremes.items():
            made = found[name]
            if made.get("axis") is not None:
                # ONNX Runtime takes one channel after the other, some 70,000 of BERT-base, and always symmetric.
                least, most = get_qmin_qmax_for_qType(made["quant_type"], symmetric=True)
                limits = int(least), int(most)
                scale, middle = bigweights.symmetric_scales(low, high, limits, self.min_real_range)
                _check_scale((low[0], high[0]), (least, most), self.min_real_range, scale[0])
                made["scale"], made["zero_point"] = scale, middle.astype(least.dtype)
            self._measured[name] = made
        return found

    def written(self, folder: Path) -> onnx.ModelProto:
        """Quantize; the graph, whose big weights are files in `folder`."""
        self.quantize_model()
        self.model.topological_sort()
        graph = self.model.model.graph
        quantized = self._weights.keys() & self.quantized_value_map.keys()
        if not quantized <= self._measured.keys():
            raise _other_release(f"it doesn't ask {METHOD} for the scales of weights")
        sources = {self.quantized_value_map[name].original.q_name: name for name in quantized}
        for tensor in graph.initializer:
            if name := sources.get(tensor.name):
                how = self._measured[name]
                blocks = self._weights[name].quantized(how.get("axis"), how["scale"], how["zero_point"])
            elif (name := tensor.name) in self._weights:
                blocks = self._weights[name].blocks()
            else:
                continue
            tensor.dims[:] = self._weights[name].shape
            onnxfiles.move_out(tensor, blocks, folder)
        model: onnx.ModelProto = self.model.model
        return model


class _Graph(ONNXModel):  # type: ignore[misc]
    """The graph as the quantizer changes it."""

    def replace_input_of_all_nodes(self, old_input_name: str, new_input_name: str) -> None:
        """As ONNX Runtime has it, for every tensor; but it looks at each input of each node in Python."""
        for node in self.model.graph.node:
            if old_input_name in node.input:
                self.replace_node_input(node, old_input_name, new_input_name)


def _check_scale(extremes: tuple[Any, Any], limits: tuple[Any, Any], least_range: float | None, found: Any) -> None:
    """StageError where ONNX Runtime has another scale than ours for a channel of these extremes."""
    _, expected = compute_scale_zp(*extremes, *limits, symmetric=True, min_real_range=least_range)
    if found != expected:
        raise _other_release(f"it scales a channel by {expected}, and stagelib.bigweights by {found}")


def _other_release(what: str) -> StageError:
    return StageError(
        f"ONNX Runtime {onnxruntime.__version__} quantizes weights otherwise than this stage does: {what}",
        hint="lock the toolchain's former onnxruntime again, and report this: stagelib/blockquantizer.py must follow",
    )
