"""`compile_openvino`: blobs for Intel's NPU beside the portable IR, where Intel's compiler library is there.

The IR always ships, and compiles on the device. A blob spares the device that, and is good for one generation of NPU.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, Result, Stage
from stagelib.modelinfo import ModelInfo, Variant

if TYPE_CHECKING:
    from stagelib.npublobs import Blob

ARCHIVE = "openvino-npu-compiler"
"""The vendor archive that holds the library, by its name in target.toml."""
PLATFORMS = ("3720", "4000", "5010")


@dataclass(frozen=True, kw_only=True)
class Params:
    """For which NPUs."""

    platforms: tuple[str, ...] = ("4000", "5010")
    """OpenVINO's numbers of the generations: 3720 Core Ultra 1, 4000 Core Ultra 2 (200V), 5010 Core Ultra 3."""

    def __post_init__(self) -> None:
        if not self.platforms or len(set(self.platforms)) != len(self.platforms):
            raise ValueError("platforms must name at least one, each once")
        if unknown := [platform for platform in self.platforms if platform not in PLATFORMS]:
            raise ValueError(f"unknown platform {unknown[0]}: known are {', '.join(PLATFORMS)}")


STAGE = Stage(
    summary="compile blobs for Intel's NPU ahead of time, where its compiler is there",
    inputs=("model",),
    takes="openvino",
    makes="openvino",
    params=Params,
    needs=("openvino", "numpy"),
    memory_factor=4.0,
    memory_mb=400,
)


def run(call: Call, params: Params) -> Result:
    """Pass the IR on and write a blob for each platform beside it.

    Without the compiler's library there are none, and the facts say so. StageError where it is there and fails.
    """
    import openvino

    from stagelib import npublobs

    info = ModelInfo.read(call.input("model"))
    for name in info.files:
        call.pass_on(name)
    library = npublobs.library()
    if not library.is_file():
        info.write(call.output)
        call.log(f"no NPU blobs: {library.name} is not among OpenVINO's libraries; the IR ships without them")
        return Result(facts={"not_built": [_missing(platform, library.name) for platform in params.platforms]})
    core = openvino.Core()
    model = core.read_model(call.input("model") / info.entry)
    variants = []
    for index, platform in enumerate(params.platforms):
        call.progress(index / len(params.platforms), f"compiling for NPU {platform}")
        blob = npublobs.compile_blob(core, model, platform)
        variants.append(_write(call.output, Path(info.entry).stem, blob))
    files = (*info.files, *(variant.entry for variant in variants))
    dataclasses.replace(info, files=files, variants=(*info.variants, *variants)).write(call.output)
    call.progress(1.0)
    return Result(facts=_facts(call.output, variants))


def _write(folder: Path, stem: str, blob: Blob) -> Variant:
    from stagelib import npublobs

    name = f"{stem}_npu{blob.built_for[npublobs.PLATFORM]}.blob"
    (folder / name).write_bytes(blob.content)
    return Variant(entry=name, files=(name,), built_for=blob.built_for)


def _missing(platform: str, library: str) -> dict[str, str]:
    return {
        "what": f"blob for the NPU platform {platform}",
        "why": f"{library}, Intel's NPU compiler, is not among OpenVINO's libraries (its wheels come without it)",
        "hint": f"drop the vendor archive {ARCHIVE} into vendor/; meanwhile the IR is compiled on the device",
    }


def _facts(folder: Path, variants: list[Variant]) -> dict[str, Any]:
    return {
        "variants": [dataclasses.asdict(variant) for variant in variants],
        "blob_bytes": {variant.entry: (folder / variant.entry).stat().st_size for variant in variants},
        "checked": "compiled, exported, and OpenVINO's mark at the blob's end; not read back, which takes the driver",
    }
