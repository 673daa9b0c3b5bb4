"""A session of ONNX Runtime, whatever its execution provider: its runs, its placement, its errors in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import StageError, cpu_count
from stagelib.runtimes.base import Placed

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    from numpy.typing import NDArray

CPU = "CPUExecutionProvider"


class OrtSession:
    """A loaded model."""

    def __init__(self, session: Any, settings: Mapping[str, str | int | None], device_name: str) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]
        self.inputs: tuple[str, ...] = tuple(tensor.name for tensor in session.get_inputs())
        self.settings: Mapping[str, str | int | None] = settings
        self.device_name = device_name

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return answers(self._session, self._outputs, batch)

    def placement(self) -> tuple[Placed, ...]:
        return ort_placement(self._session)


def answers(session: Any, outputs: Sequence[str], batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Outputs by name; StageError where ONNX Runtime or the driver beneath it fails."""
    try:
        return dict(zip(outputs, session.run(list(outputs), dict(batch)), strict=True))
    except ort_failures() as error:
        raise StageError(f"ONNX Runtime failed while it ran the model: {error}") from error


def options_of_few_runs() -> onnxruntime.SessionOptions:
    """Of a session that runs a batch or two: its weights stay as they are. Packed for speed they would be in memory a
    second time, which takes longer than they are then used."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_count()
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def session_of(
    model: onnx.ModelProto, folders: Sequence[Path], options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """A session on the CPU of a graph, whose big weights may have been left in their files: each of those is mapped
    from the first of the folders that has it."""
    import onnxruntime

    from stagelib import onnxfiles

    apart = [tensor for tensor in model.graph.initializer if onnxfiles.is_apart(tensor)]
    arrays = [onnxfiles.array(tensor, *folders) for tensor in apart]
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
    options.add_external_initializers([tensor.name for tensor in apart], values)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])


def ort_placement(session: Any) -> tuple[Placed, ...]:
    """Where the graph's nodes are, by the partitioner's own record, what is on the CPU last.

    Not by get_providers(): that lists what was asked for even if nothing runs there. Without shares of compute: a
    normalization multiplies next to nothing, and would fall to the CPU unseen.
    """
    places: dict[str, Counter[str]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        places.setdefault(subgraph.ep_name, Counter()).update(node.op_type for node in subgraph.get_nodes())
    order = sorted(places, key=lambda name: (name == CPU, name))
    return tuple(Placed(where=name, nodes=places[name].total(), ops=dict(places[name].most_common())) for name in order)


def ort_failures() -> tuple[type[Exception], ...]:
    """All that ONNX Runtime raises: its binding gives these no base of their own, and new releases add to them."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    own = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (RuntimeError, *own)


def hardware_name(device: onnxruntime.OrtEpDevice) -> str:
    """What a provider's device is called: the system's description where ONNX Runtime has one, else vendor and kind."""
    hardware = device.device
    described = str(hardware.metadata.get("Description", "")).strip()
    return described or f"{hardware.vendor} {hardware.type.name}".strip()
