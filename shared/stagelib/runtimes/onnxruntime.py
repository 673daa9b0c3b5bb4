"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib import ortrun
from stagelib.api import Format, StageError, cpu_count
from stagelib.modelinfo import ModelInfo
from stagelib.runtimes.base import ExecutedOn, Placed

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

PACKAGES: tuple[str, ...] = ("onnxruntime", "numpy")
FORMATS: tuple[Format, ...] = ("onnx",)
PROVIDERS = {"cpu": "CPUExecutionProvider"}


def load(folder: Path, *, device: str = "cpu", threads: int | None = None) -> OrtSession:
    """Load the ONNX model of `folder`; StageError for a device this runtime doesn't serve or a model it can't read."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    provider = PROVIDERS.get(device.lower())
    if provider is None:
        raise StageError(f"runtime onnxruntime has no device {device!r}", hint=f"known: {', '.join(sorted(PROVIDERS))}")
    info = ModelInfo.read(folder)
    if info.format != "onnx":
        raise StageError(f"runtime onnxruntime can't load a model in {info.format} format")
    settings: dict[str, str | int | None] = {"provider": provider, "intra_op_num_threads": threads or cpu_count()}
    try:
        session = onnxruntime.InferenceSession(str(folder / info.entry), _options(settings), providers=[provider])
    except (errors.Fail, errors.InvalidGraph, errors.NotImplemented, errors.InvalidProtobuf) as error:
        raise StageError(f"ONNX Runtime can't load {info.entry}: {error}", kind="stage") from error
    return OrtSession(session, settings)


def executed_on(device: str) -> ExecutedOn:
    """The processor is all this runtime serves."""
    del device
    return "cpu"


def _options(settings: Mapping[str, str | int | None]) -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["intra_op_num_threads"]
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # Idle workers otherwise go on spinning after a run and take the CPUs from whatever is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


class OrtSession:
    """A loaded ONNX model."""

    def __init__(self, session: onnxruntime.InferenceSession, settings: Mapping[str, str | int | None]) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]
        self.inputs: tuple[str, ...] = tuple(tensor.name for tensor in session.get_inputs())
        self.settings: Mapping[str, str | int | None] = settings

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return ortrun.answers(self._session, self._outputs, batch)

    def placement(self) -> tuple[Placed, ...]:
        # From the partitioner, not from get_providers(): that lists what was asked for even if nothing runs there.
        nodes: Counter[str] = Counter()
        for subgraph in self._session.get_provider_graph_assignment_info():
            nodes[subgraph.ep_name] += len(subgraph.get_nodes())
        return tuple(Placed(where=where, nodes=number) for where, number in sorted(nodes.items()))
