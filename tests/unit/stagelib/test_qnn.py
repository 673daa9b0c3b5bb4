"""Qualcomm's chips, which variant a device takes, and what a compilation may make: without Qualcomm's libraries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from stagelib import qnnchips, qnnfiles, vendor
from stagelib.api import StageError
from stagelib.modelinfo import ModelInfo, Tensor, Variant
from stagelib.ortrun import CPU
from stagelib.qnnfiles import PROVIDER, Context
from stagelib.runtimes import qnn
from stagelib.runtimes.base import Placed
from stagelib.stages import compile_qnn
from stagelib.stages.compile_qnn import Compiled, Params

ON_NPU = Placed(where=PROVIDER, nodes=700)
FALLEN = Placed(where=CPU, nodes=13, ops={"LayerNormalization": 13})


def variant(chip: str) -> Variant:
    return Variant(entry=f"{chip}_ctx.onnx", files=(f"{chip}_ctx.onnx",), built_for={"chip": chip})


def context(contexts: int = 1, others: dict[str, int] | None = None, compatibility: str = "v2:6") -> Context:
    return Context(
        file="sm8650_ctx.onnx",
        binaries=("sm8650_ctx_qnn.bin",),
        contexts=contexts,
        others=others or {},
        sdk_version="v2.51.0",
        compatibility=compatibility,
    )


def compiled(soc: str, placed: Sequence[Placed]) -> Compiled:
    chip = qnnchips.find(soc)
    return Compiled(
        chip=chip, context=context(), placed=tuple(placed), strict=len(placed) == 1, seconds=1.0, built_for={}
    )


def test_the_default_chips_are_all_listed_and_none_of_them_is_a_guess() -> None:
    chips = [qnnchips.find(soc) for soc in Params().socs]
    assert [(chip.name, chip.htp_arch) for chip in chips] == [
        ("SC8380XP", 73),
        ("SM8650", 75),
        ("SM8750", 79),
        ("SM8850", 81),
    ]
    assert not [chip for chip in chips if "id" in chip.note]


@pytest.mark.parametrize("socs", [("12345",), ("",), ("60:",), ("85:SM8735:79",), ("85:SM8735:v79:8",), ("60:A:73:8",)])
def test_an_unknown_soc_is_refused_with_the_known_ones(socs: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"known: 36 \(SM8450|is listed: give its id alone"):
        Params(socs=socs)


def test_an_unlisted_soc_can_be_named_and_says_that_it_is_not_confirmed() -> None:
    chip = qnnchips.find("85:SM8735:79:8")
    assert (chip.soc_model, chip.name, chip.htp_arch, chip.vtcm_mb) == ("85", "SM8735", 79, 8)
    assert "not confirmed" in chip.note


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"socs": ()}, "socs is empty"),
        ({"socs": ("60", "60")}, "twice"),
        ({"vtcm_mb": 16}, "SC8380XP has 8 MB"),
        ({"vtcm_mb": -1}, "negative"),
    ],
)
def test_params_that_make_no_sense_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Params(**given)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("made", "placed"),
    [
        (context(contexts=2), [ON_NPU]),
        (context(others={"LayerNormalization": 1}), [ON_NPU]),
        (context(), [ON_NPU, FALLEN]),
    ],
)
def test_a_strict_compilation_that_is_not_one_piece_is_an_error_whatever_the_compiler_says(
    made: Context, placed: list[Placed]
) -> None:
    with pytest.raises(StageError, match="should be one EPContext node"):
        compile_qnn._check(made, placed, strict=True)


def test_a_context_without_onnx_runtime_s_own_stamp_is_an_error() -> None:
    compile_qnn._check(context(), [ON_NPU], strict=True)
    with pytest.raises(StageError, match="compatibility"):
        compile_qnn._check(context(compatibility=""), [ON_NPU], strict=True)


def test_one_chip_that_falls_back_is_the_placement_of_the_whole_stage(tmp_path: Path) -> None:
    (tmp_path / "a_ctx.onnx").write_bytes(b"12345")
    made = [compiled("60", [ON_NPU]), compiled("57", [ON_NPU, FALLEN]), compiled("69", [ON_NPU])]
    variants = [Variant(entry="a_ctx.onnx", files=("a_ctx.onnx",), built_for={}) for _ in made]
    facts = compile_qnn._facts(tmp_path, made, variants)
    assert facts["placement_of"] == "SM8650"
    assert facts["placement"][1] == {
        "where": CPU,
        "nodes": 13,
        "ops": {"LayerNormalization": 13},
        # A share of compute would make of this a fallback of nothing.
        "compute": None,
    }
    assert [(chip["strict"], chip["nodes_on_cpu"], chip["bytes"]) for chip in facts["chips"]] == [
        (True, 0, 5),
        (False, 13, 5),
        (True, 0, 5),
    ]


def test_a_refused_compilation_leaves_nothing_of_itself_and_all_of_the_others(tmp_path: Path) -> None:
    for name in ("sm8650_ctx.onnx", "sm8650_ctx_qnn.bin", "sm8750_ctx.onnx"):
        (tmp_path / name).touch()
    compile_qnn._remove(tmp_path / "sm8650_ctx.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["sm8750_ctx.onnx"]


VARIANTS = [variant("SM8550"), variant("SC8380XP"), variant("SM8650")]


def test_the_driver_s_verdict_chooses_the_variant() -> None:
    assert qnn.choose(VARIANTS, ["prefer_recompilation", "unsupported", "optimal"], "") == VARIANTS[2]
    assert qnn.choose(VARIANTS, ["prefer_recompilation", "unsupported", "unsupported"], "") == VARIANTS[0]


def test_of_two_chips_of_one_architecture_the_device_s_own_is_taken() -> None:
    # v73 both: the driver can't tell them apart.
    assert qnn.choose(VARIANTS, ["optimal", "optimal", "unsupported"], "sc8380xp") == VARIANTS[1]
    assert qnn.choose(VARIANTS, ["optimal", "optimal", "unsupported"], "") == VARIANTS[0]


def test_where_the_driver_says_nothing_only_the_device_s_own_chip_will_do() -> None:
    silent: list[qnn.Verdict] = ["not_applicable"] * 3
    assert qnn.choose(VARIANTS, silent, "SM8650") == VARIANTS[2]
    with pytest.raises(StageError, match=r"no variant of the model is for this device \(SM8750\)") as failure:
        qnn.choose(VARIANTS, silent, "SM8750")
    assert "socs" in failure.value.hint
    assert "/dev/fastrpc-cdsp*" in failure.value.hint


def test_a_driver_that_refuses_all_is_believed_even_where_the_chip_is_right() -> None:
    with pytest.raises(StageError, match=r"SM8650 \(unsupported\)"):
        qnn.choose(VARIANTS, ["unsupported"] * 3, "SM8650")


def test_the_emulator_is_never_called_a_device() -> None:
    assert (qnn.executed_on("emulator"), qnn.executed_on("NPU"), qnn.executed_on("gpu")) == (
        "emulator",
        "device",
        "device",
    )
    with pytest.raises(StageError, match="no device 'CPU'"):
        qnn.executed_on("CPU")


@pytest.mark.parametrize(
    ("device", "kind", "words"),
    [("emulator", "onnx", "loads qnn_context, not onnx"), ("GPU", "qnn_context", "loads onnx, not qnn_context")],
)
def test_a_device_refuses_a_format_it_can_t_load(tmp_path: Path, device: str, kind: str, words: str) -> None:
    tensor = Tensor(name="input_ids", dtype="int64", shape=(1, 8))
    ModelInfo(
        format=kind,  # type: ignore[arg-type]  # two of the formats
        entry="model.onnx",
        files=("model.onnx",),
        precision="fp32",
        inputs=(tensor,),
        outputs=(tensor,),
    ).write(tmp_path)
    with pytest.raises(StageError, match=words):
        qnn.load(tmp_path, device=device)


def test_on_another_processor_there_is_no_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    tensor = Tensor(name="input_ids", dtype="int64", shape=(1, 8))
    ModelInfo(
        format="qnn_context", entry="a_ctx.onnx", files=(), precision="", inputs=(tensor,), outputs=(tensor,)
    ).write(tmp_path)
    with pytest.raises(StageError, match="no emulator on aarch64"):
        qnn.load(tmp_path, device="emulator")


class FakeDevice:
    """An OrtEpDevice, as far as its kind goes."""

    def __init__(self, kind: str) -> None:
        self.device = type("Hardware", (), {"type": type("Type", (), {"name": kind})})


def test_the_processor_is_no_npu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, npu = FakeDevice("CPU"), FakeDevice("NPU")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert qnnfiles._of_kind([cpu, npu], "NPU") == [npu]
    with pytest.raises(StageError, match="no NPU of Qualcomm's here, only CPU"):
        qnnfiles._of_kind([cpu], "NPU")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("sys.platform", "linux")
    assert qnnfiles._of_kind([cpu], "NPU") == [cpu]


def test_the_sdk_of_the_archive_is_used_only_where_it_is_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = type("Package", (), {"get_qnn_htp_path": staticmethod(lambda: "/wheel/libQnnHtp.so")})
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime_qnn", package)
    assert qnnfiles.compiler("bundled") == Path("/wheel/libQnnHtp.so")
    monkeypatch.setattr(vendor, "folder", lambda name: tmp_path if name == qnnfiles.SDK else None)
    with pytest.raises(StageError, match="isn't in this environment"):
        qnnfiles.compiler("qairt")
    library = tmp_path / "lib" / "x86_64-linux-clang" / "libQnnHtp.so"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.setattr(qnnfiles, "_loading_error", lambda _: "libc++.so.1: no such file")
    with pytest.raises(StageError, match=r"doesn't load: libc\+\+"):
        qnnfiles.compiler("qairt")
    monkeypatch.setattr(qnnfiles, "_loading_error", lambda _: "")
    assert qnnfiles.compiler("qairt") == library


def test_a_chip_is_one_whatever_the_case_of_its_name() -> None:
    assert qnnchips.find("85:sm8735:79:8").name == "SM8735"
    with pytest.raises(ValueError, match="twice"):
        compile_qnn.Params(socs=("57", "85:sm8650:79:8"))
