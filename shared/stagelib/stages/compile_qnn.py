"""`compile_qnn`: a quantized ONNX model to context binaries of Qualcomm's Hexagon NPU, one for each chip."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagelib import qnnchips
from stagelib.api import Call, Result, Stage, StageError
from stagelib.modelinfo import ModelInfo, Variant
from stagelib.qnnchips import Chip

if TYPE_CHECKING:
    from stagelib.qnnfiles import Context
    from stagelib.runtimes.base import Placed

PACKAGES = ("onnxruntime", "onnxruntime-qnn")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Which chips, and how hard the compiler tries."""

    socs: tuple[str, ...] = ("60", "57", "69", "87")
    """SoC model ids: 60 Snapdragon X Elite, 57 8 Gen 3, 69 8 Elite, 87 8 Elite Gen 5, 43 8 Gen 2, 36 8 Gen 1, 88 X2
    Elite; another one as "id:name:architecture:VTCM in MB". The first is the deployable's default."""
    optimization: Literal[1, 2, 3] = 3
    """Qualcomm's `htp_graph_finalization_optimization_mode`: 3 takes the longest and makes the best graph."""
    vtcm_mb: int = 0
    """Mebibytes of the NPU's own memory that the graph may use; 0 takes all the chip has. The compiler's own default is
    4."""
    sdk: Literal["bundled", "qairt"] = "bundled"
    """Whose compiler: that in onnxruntime-qnn or, where devices have an older driver, that of the SDK that was dropped
    in as a vendor archive. A device refuses what a newer SDK than its own compiled."""

    def __post_init__(self) -> None:
        if not self.socs:
            raise ValueError("socs is empty: name one SoC model at least")
        if self.vtcm_mb < 0:
            raise ValueError("vtcm_mb must not be negative")
        names = [qnnchips.find(soc).name for soc in self.socs]
        if len(set(names)) < len(names):
            raise ValueError("socs names a chip twice")
        for chip in map(qnnchips.find, self.socs):
            if self.vtcm_mb > chip.vtcm_mb:
                raise ValueError(f"vtcm_mb: {chip.name} has {chip.vtcm_mb} MB")


STAGE = Stage(
    summary="compile for Qualcomm's Hexagon NPU, one context binary a chip",
    inputs=("model",),
    takes="onnx",
    makes="qnn_context",
    params=Params,
    needs=(*PACKAGES, "onnx", "numpy"),
    memory_factor=6.0,
    memory_mb=400,
)


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What became of the model for one chip."""

    chip: Chip
    context: Context
    placed: tuple[Placed, ...]
    strict: bool
    """Nothing was left to the CPU."""
    seconds: float
    built_for: dict[str, Any]


def run(call: Call, params: Params) -> Result:
    """Write `<chip>_ctx.onnx` and its binary for each chip.

    Where the compiler leaves nodes to the CPU the artifact holds them, and `placement` tells: the run's placement gate
    fails by it. StageError where the provider takes nothing at all, or what it wrote is not what it should be.
    """
    from stagelib import onnxfiles

    info = ModelInfo.read(call.input("model"))
    source = onnxfiles.one_file(call.input("model"), call.scratch)
    chips = [qnnchips.find(soc) for soc in params.socs]
    made = []
    for index, chip in enumerate(chips):
        call.progress(index / len(chips), f"compiling for {chip.name} ({chip.title})")
        made.append(_compile(call, source, chip, params))
    variants = tuple(_variant(compiled) for compiled in made)
    ModelInfo(
        format="qnn_context",
        entry=variants[0].entry,
        files=tuple(name for variant in variants for name in variant.files),
        precision=info.precision,
        inputs=info.inputs,
        outputs=info.outputs,
        variants=variants,
    ).write(call.output)
    call.progress(1.0)
    return Result(facts=_facts(call.output, made, variants))


def _compile(call: Call, source: Path, chip: Chip, params: Params) -> Compiled:
    """Compile strictly and, where the compiler refuses that, with the CPU allowed, to say what would run there."""
    from stagelib import qnnfiles

    target = call.output / f"{chip.name.lower()}_ctx.onnx"
    vtcm = params.vtcm_mb or chip.vtcm_mb
    options = _options(chip, params, vtcm)
    started = time.perf_counter()
    try:
        placed, strict = _session(source, options, target, strict=True), True
    except StageError as refusal:
        _remove(target)
        call.log(f"{chip.name}: not in one piece, compiling again to see what stays on the CPU ({refusal.message})")
        placed, strict = _session(source, options, target, strict=False), False
    seconds = round(time.perf_counter() - started, 2)
    if not target.is_file():
        raise StageError(
            f"Qualcomm's compiler takes nothing of the model for {chip.name} (SoC model {chip.soc_model}): all of it "
            "would run on the CPU",
            hint="does this SDK know the chip, and is the model quantized? The stage's log has the compiler's words",
        )
    context = qnnfiles.read_context(target)
    _check(context, placed, strict=strict)
    built_for = _built_for(chip, vtcm, params.optimization, context)
    qnnfiles.stamp(target, {key: str(value) for key, value in built_for.items()})
    _verify(target, context)
    return Compiled(chip=chip, context=context, placed=placed, strict=strict, seconds=seconds, built_for=built_for)


def _options(chip: Chip, params: Params, vtcm: int) -> dict[str, str]:
    from stagelib import qnnfiles

    return {
        "backend_path": str(qnnfiles.compiler(params.sdk)),
        "soc_model": chip.soc_model,
        "htp_arch": str(chip.htp_arch),
        "vtcm_mb": str(vtcm),
        "htp_graph_finalization_optimization_mode": str(params.optimization),
        # The conversions at the graph's ends are part of it: on the CPU they would count as a fallback, as they are.
        "offload_graph_io_quantization": "0",
    }


def _session(source: Path, options: dict[str, str], target: Path, *, strict: bool) -> tuple[Placed, ...]:
    """Compile by making a session, which unlike ONNX Runtime's ModelCompiler also tells where every node is."""
    from stagelib import qnnfiles
    from stagelib.ortrun import ort_placement

    entries = {
        "session.disable_cpu_ep_fallback": str(int(strict)),
        "ep.context_enable": "1",
        "ep.context_embed_mode": "0",
        "ep.context_file_path": str(target),
    }
    return ort_placement(qnnfiles.session(source, options, entries))


def _remove(target: Path) -> None:
    """What a refused compilation left behind."""
    for path in target.parent.glob(f"{target.stem}*"):
        path.unlink()


def _check(context: Context, placed: Sequence[Placed], *, strict: bool) -> None:
    """A strict compilation must have made one EPContext node and nothing else, whatever the runtime reports."""
    from stagelib import qnnfiles

    if strict and (context.contexts != 1 or context.others or qnnfiles.elsewhere(placed)):
        beside = ", ".join(f"{number} {kind}" for kind, number in context.others.items()) or "nothing"
        raise StageError(
            f"{context.file} should be one EPContext node and has {context.contexts}, with {beside} beside it"
        )
    if not strict and not qnnfiles.elsewhere(placed):
        raise StageError(f"{context.file}: the compiler refused the graph in one piece, and doesn't say why")
    if not context.compatibility or not context.sdk_version:
        raise StageError(f"{context.file} lacks ONNX Runtime's compatibility information or the SDK's version")


def _built_for(chip: Chip, vtcm: int, optimization: int, context: Context) -> dict[str, Any]:
    """What is stamped into the context model and recorded of it."""
    from importlib.metadata import version

    return {
        "chip": chip.name,
        "title": chip.title,
        "soc_model": chip.soc_model,
        "htp_arch": f"v{chip.htp_arch}",
        "vtcm_mb": vtcm,
        "optimization": optimization,
        "sdk_version": context.sdk_version,
        **{package: version(package) for package in PACKAGES},
        "compatibility": context.compatibility,
        **({"note": chip.note} if chip.note else {}),
    }


def _verify(target: Path, before: Context) -> None:
    """The stamped model is valid, and still says what ONNX Runtime wrote."""
    import onnx

    from stagelib import qnnfiles

    onnx.checker.check_model(str(target))
    if qnnfiles.read_context(target) != before:
        raise StageError(f"{target.name} changed otherwise than by its stamp")


def _variant(compiled: Compiled) -> Variant:
    context = compiled.context
    return Variant(entry=context.file, files=(context.file, *context.binaries), built_for=compiled.built_for)


def _facts(folder: Path, made: Sequence[Compiled], variants: Sequence[Variant]) -> dict[str, Any]:
    """`placement` is that of the chip with the most nodes off the NPU, so that one fallback fails the gate."""
    from stagelib import qnnfiles
    from stagelib.runtimes.base import listed

    worst = max(made, key=lambda compiled: qnnfiles.elsewhere(compiled.placed))
    return {
        "placement": listed(worst.placed),
        "placement_of": worst.chip.name,
        "variants": [asdict(variant) for variant in variants],
        "chips": [
            {
                "chip": compiled.chip.name,
                "strict": compiled.strict,
                "ep_context_nodes": compiled.context.contexts,
                "nodes_on_cpu": qnnfiles.elsewhere(compiled.placed),
                "seconds": compiled.seconds,
                "bytes": sum((folder / name).stat().st_size for name in variant.files),
            }
            for compiled, variant in zip(made, variants, strict=True)
        ],
    }
