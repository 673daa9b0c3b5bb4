"""Wrap an OpenVINO IR in an ONNX model of one EPContext node, which ONNX Runtime's OpenVINO provider loads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo

if TYPE_CHECKING:
    import onnx

PROVIDER = "OpenVINOExecutionProvider"
DOMAIN = "com.microsoft"
OPSET = 17
WRITER = "OpenVINO Runtime"
"""Under this name an IR keeps the release that wrote it."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """Nothing to choose: the release that is stamped is the one that the IR itself says has written it."""


STAGE = Stage(
    summary="encapsulate an OpenVINO IR as an EPContext ONNX model",
    inputs=("model",),
    takes="openvino",
    makes="openvino",
    params=Params,
    needs=("openvino", "onnx", "numpy"),
    threads=1,
    memory_factor=2.0,
    memory_mb=250,
)


def run(call: Call, params: Params) -> Result:
    """Pass the IR on, write `<name>_ctx.onnx` beside it; StageError for another format, or one that can't be read."""
    import onnx

    del params
    info = ModelInfo.read(call.input("model"))
    if info.format != "openvino":
        raise StageError(f"encapsulate takes an OpenVINO IR, not {info.format}", hint="put quantize_nncf before it")
    call.progress(0.0, "reading the IR")
    for name in info.files:
        call.pass_on(name)
    writer = _writer(call.input("model") / info.entry)
    # Year and release: what the provider compares, without patch and build.
    version = ".".join(writer.split("-", maxsplit=1)[0].split(".")[:2])
    target = call.output / f"{Path(info.entry).stem}_ctx.onnx"
    call.progress(0.4, "writing the EPContext model")
    model = _context(info, version)
    onnx.helper.set_model_props(model, {"openvino_version": writer})
    onnx.save(model, str(target))
    dataclasses.replace(info, files=(*info.files, target.name)).write(call.output)
    call.progress(0.6, "reading it back")
    _check(call.input("model"), info, target)
    call.progress(1.0)
    checked = "the ONNX checker, and the IR read again by OpenVINO; not executed by the provider"
    facts = {"ep_context": target.name, "source": PROVIDER, "ep_sdk_version": version, "openvino_version": writer}
    return Result(facts=facts | {"checked": checked})


def _writer(ir: Path) -> str:
    """The OpenVINO that wrote an IR, with patch and build; StageError where the IR doesn't say so itself."""
    import openvino

    model = openvino.Core().read_model(ir)
    try:
        return str(model.get_rt_info([WRITER]).astype(str))
    except RuntimeError as error:
        raise StageError(f"{ir.name} doesn't say which OpenVINO wrote it") from error


def _context(info: ModelInfo, version: str) -> onnx.ModelProto:
    from onnx import helper

    from stagelib.onnxfiles import value_info

    node = helper.make_node(
        "EPContext",
        [tensor.name for tensor in info.inputs],
        [tensor.name for tensor in info.outputs],
        name="EPContext",
        domain=DOMAIN,
        main_context=1,
        embed_mode=0,
        ep_cache_context=info.entry,
        ep_sdk_version=version,
        source=PROVIDER,
    )
    inputs, outputs = ([value_info(tensor) for tensor in side] for side in (info.inputs, info.outputs))
    graph = helper.make_graph([node], "openvino_context", inputs, outputs)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="portwright")


def _check(folder: Path, info: ModelInfo, target: Path) -> None:
    """What can be checked without the device: both files load, and their borders are the same."""
    import onnx
    import openvino

    from stagelib import onnxfiles

    onnx.checker.check_model(str(target))
    graph = onnx.load(str(target)).graph
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in graph.node[0].attribute}
    ir = openvino.Core().read_model(folder / attributes["ep_cache_context"].decode())
    for side, ports in (("inputs", ir.inputs), ("outputs", ir.outputs)):
        declared = onnxfiles.tensors(getattr(graph, side.removesuffix("s")))
        found = [(port.any_name, list(port.shape)) for port in ports]
        if found != [(tensor.name, list(tensor.shape)) for tensor in declared]:
            raise StageError(f"the {side} of {target.name} are not those of {info.entry} in {folder.name}")
