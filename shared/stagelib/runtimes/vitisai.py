"""ONNX Runtime with AMD's Vitis AI provider, on AMD's NPU. Not verified here: AMD's wheel and an NPU are not here."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagelib.api import Format, StageError
from stagelib.modelinfo import ModelInfo
from stagelib.ortrun import OrtSession, ort_failures
from stagelib.runtimes.base import ExecutedOn, Placed

if TYPE_CHECKING:
    from numpy.typing import NDArray

PACKAGES: tuple[str, ...] = ("onnxruntime-vitisai", "numpy")
FORMATS: tuple[Format, ...] = ("vitisai", "onnx")
DEVICE = "npu"
DRIVER = "install AMD's NPU driver (amdxdna and XRT), so that /dev/accel/accel* is there, and ask for --device=npu"


def load(folder: Path, *, device: str = DEVICE, threads: int | None = None) -> VitisAiSession:
    """Load a compiled or an ONNX model; StageError where the provider or the NPU isn't there, or it took no node."""
    from stagelib import vitisai

    _checked(device)
    runtime = vitisai.providing_runtime()
    info = ModelInfo.read(folder)
    if info.format not in FORMATS:
        raise StageError(f"runtime vitisai can't load a model in {info.format} format")
    cache = Path(tempfile.mkdtemp(prefix="vitisai-"))
    try:
        return _loaded(folder, info, cache, runtime, threads)
    except BaseException:
        shutil.rmtree(cache, ignore_errors=True)
        raise


def _loaded(folder: Path, info: ModelInfo, cache: Path, runtime: Any, threads: int | None) -> VitisAiSession:
    """The session, which removes `cache` when it goes."""
    from stagelib import vitisai

    os.environ[vitisai.REPORT_VARIABLE] = vitisai.REPORT
    options = {**vitisai.cache_options(cache), **_compiled_with(folder, info)}
    session_options = runtime.SessionOptions()
    if threads is not None:
        session_options.intra_op_num_threads = threads
    session_options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = runtime.InferenceSession(
            str(folder / info.entry), session_options, providers=[vitisai.PROVIDER], provider_options=[options]
        )
    except ort_failures() as error:
        raise StageError(f"the Vitis AI provider can't load {info.entry}: {error}", hint=DRIVER) from error
    settings = {"provider": vitisai.PROVIDER, "intra_op_num_threads": threads, **vitisai.described(options)}
    loaded = VitisAiSession(session, settings, cache, vitisai.device_name())
    if not any(part.where == vitisai.PROVIDER and part.nodes for part in loaded.placement()):
        raise StageError(f"no node of {info.entry} is on {vitisai.PROVIDER}: it would run on the CPU, in silence")
    return loaded


def _compiled_with(folder: Path, info: ModelInfo) -> dict[str, str]:
    """The options that a model was compiled with: AMD wants the same again when it is loaded."""
    from stagelib import vitisai

    config = folder / vitisai.CONFIG
    options = {"config_file": str(config)} if config.is_file() else {}
    for variant in info.variants:
        if variant.entry == info.entry and variant.built_for.get("target") in vitisai.INTEGER_TARGETS:
            options["target"] = str(variant.built_for["target"])
    return options


def executed_on(device: str) -> ExecutedOn:
    """The NPU is all this runtime serves."""
    _checked(device)
    return "device"


def _checked(device: str) -> None:
    if device.lower() != DEVICE:
        raise StageError(f"runtime vitisai has no device {device!r}", hint=f"known: {DEVICE}")


class VitisAiSession(OrtSession):
    """A loaded model, whose NPU must have been opened."""

    def __init__(self, session: Any, settings: Mapping[str, str | int | None], cache: Path, device_name: str) -> None:
        weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
        super().__init__(session, settings, device_name)
        self._cache = cache
        self._seen = False

    def run(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name; StageError after the first run where the NPU's device node was never opened."""
        from stagelib import vitisai

        results = super().run(batch)
        if not self._seen and vitisai.opened_device() is False:
            raise StageError(f"{vitisai.PROVIDER} ran without opening an NPU: it computes on the CPU", hint=DRIVER)
        self._seen = True
        return results

    def placement(self) -> tuple[Placed, ...]:
        """From the partitioner, where this release of ONNX Runtime tells, and from the provider's own report.

        Either says which nodes the provider has. Which of them it runs on the CPU itself, only the report says.
        """
        from stagelib import vitisai

        reported = vitisai.read_report(self._cache)
        if getattr(self._session, "get_provider_graph_assignment_info", None) is None:
            if not reported:
                raise StageError("neither ONNX Runtime nor the Vitis AI provider says where the nodes are")
            return reported
        placed = super().placement()
        left = [part for part in placed if part.where != vitisai.PROVIDER]
        inside = vitisai.inside(reported, sum((Counter(part.ops) for part in left), Counter()))
        if inside is None:
            return placed
        # The report's count: to the partitioner what was compiled before is one node.
        return (*(part for part in reported if part.where == vitisai.PROVIDER), *left, inside)
