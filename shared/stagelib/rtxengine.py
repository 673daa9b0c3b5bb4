"""TensorRT-RTX's builder and parser, behind one function."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagelib.api import StageError

WHERE = "TensorRT-RTX"
LIBRARY = "TensorRT-RTX"
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Built:
    """A serialized engine, the release that made it, and the network's layers by kind, constants left out."""

    plan: bytes
    version: str
    layers: Mapping[str, int]


def build(model: Path, capabilities: Sequence[str], *, tf32: bool) -> Built:
    """One engine for all the compute capabilities. StageError where the library doesn't know one, or the model has an
    operator that its parser refuses: there is no other provider to take it."""
    import tensorrt_rtx_bindings as trt

    log = _log()
    builder = trt.Builder(log)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(model)):
        raise _refusal([parser.get_error(index) for index in range(parser.num_errors)])
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(capabilities)
    for index, name in enumerate(capabilities):
        config.set_compute_capability(_capability(name), index)
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StageError(f"TensorRT-RTX can't build the engine: {log.errors[-1] if log.errors else 'no reason given'}")
    kinds = Counter(network.get_layer(index).type.name for index in range(network.num_layers))
    del kinds["CONSTANT"]
    return Built(plan=bytes(plan), version=trt.__version__, layers=dict(kinds.most_common()))


def architecture(capability: str) -> str:
    """NVIDIA's name of a compute capability: 8.6 is SM86."""
    return f"SM{capability.replace('.', '')}"


def refused(errors: Iterable[tuple[str, str, str]]) -> str:
    """The parser's errors, each (operator, node, reason), in a line: every operator once, with its first reason."""
    counts: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for operator, node, reason in errors:
        counts[operator or "the file"] += 1
        reasons.setdefault(operator or "the file", f"{node}: {reason}" if node else reason)
    listed = (f"{name} ({count} nodes; {reasons[name]})" for name, count in counts.most_common(SHOWN))
    more = len(counts) - SHOWN
    return "; ".join(listed) + (f"; and {more} more operators" if more > 0 else "")


def _refusal(errors: Sequence[Any]) -> StageError:
    told = refused((error.node_operator(), error.node_name(), error.desc()) for error in errors)
    return StageError(
        f"TensorRT-RTX can't parse the model: {told or 'no reason given'}",
        hint="it takes ONNX's own operators: leave out fusions into ONNX Runtime's (optimize)",
    )


def _capability(name: str) -> Any:
    import tensorrt_rtx_bindings as trt

    known = {member for member in trt.ComputeCapability.__members__ if member.startswith("SM")}
    if architecture(name) not in known:
        listed = ", ".join(f"{member[2:-1]}.{member[-1]}" for member in sorted(known, key=lambda one: int(one[2:])))
        raise StageError(f"TensorRT-RTX {trt.__version__} has no compute capability {name}", hint=f"known: {listed}")
    return trt.ComputeCapability.__members__[architecture(name)]


def _log() -> Any:
    """The library's logger: warnings and errors to standard error, errors kept for the message."""
    import tensorrt_rtx_bindings as trt

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity > trt.ILogger.WARNING:
                return
            print(f"[{severity.name}] {message}", file=sys.stderr)
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    return Log()
