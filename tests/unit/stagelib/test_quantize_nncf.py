"""What the parameters of `quantize_nncf` refuse before a model is read, and the order its texts come in."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from portwright.project import this_project
from stagelib.api import Call, StageError
from stagelib.stages.quantize_nncf import COMPARED_WITH, Params, _Calibration, _explained, _quantize


@pytest.mark.parametrize("alpha", [-0.5, 1.01, -2.0, float("nan")])
def test_an_alpha_is_a_share_or_off(alpha: float) -> None:
    with pytest.raises(ValueError, match="smooth_quant_alpha"):
        Params(batch_size=1, sequence_length=8, smooth_quant_alpha=alpha)


@pytest.mark.parametrize("alpha", [None, -1.0, 0.0, 0.8, 1.0])
def test_what_nncf_takes_is_passed_on(alpha: float | None) -> None:
    assert Params(batch_size=1, sequence_length=8, smooth_quant_alpha=alpha).smooth_quant_alpha == alpha


def test_no_samples_is_no_calibration() -> None:
    with pytest.raises(ValueError, match="samples"):
        Params(batch_size=1, sequence_length=8, samples=0)


def test_texts_come_once_each_without_padding_the_shortest_first(tmp_path: Path) -> None:
    lengths = [3, 1, 4, 2]
    mask = np.array([[1] * length + [0] * (5 - length) for length in lengths])
    rows = {"input_ids": mask * np.array([[10], [20], [30], [40]]), "attention_mask": mask}
    call = Call(stage="q", inputs={}, output=tmp_path, scratch=tmp_path, events=io.StringIO())
    calibration = _Calibration(call, rows, ["input_ids"], 4, 1, trim=True)
    assert [feed["input_ids"].tolist() for feed in map(calibration.__getitem__, range(len(calibration)))] == [
        [[20]],
        [[40, 40]],
        [[10, 10, 10]],
        [[30, 30, 30, 30]],
    ]


def test_full_batches_hold_no_text_beyond_those_that_are_reported(tmp_path: Path) -> None:
    rows = {name: np.arange(10)[:, None] for name in ("input_ids", "attention_mask")}
    call = Call(stage="q", inputs={}, output=tmp_path, scratch=tmp_path, events=io.StringIO())
    calibration = _Calibration(call, rows, ["input_ids"], 3, 2, trim=False)
    assert [feed["input_ids"].ravel().tolist() for feed in map(calibration.__getitem__, range(2))] == [[0, 1], [2, 0]]


class InternalError(Exception):
    """As NNCF defines it."""


class ValidationError(Exception):
    """As NNCF defines it, and raises where no text goes through a branch."""


def nncf_of(version: str, monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    """Stand-ins for NNCF of that version and for `stagelib.onepass`, which say who quantized."""
    nncf, onepass = ModuleType("nncf"), ModuleType("stagelib.onepass")
    names = {
        "__version__": version,
        "Dataset": list,
        "InternalError": InternalError,
        "ValidationError": ValidationError,
    }
    nncf.__dict__.update(names, quantize=lambda *_, **__: calls.append("NNCF"))
    onepass.__dict__.update(NotOnePassError=InternalError, quantize=lambda *_, **__: calls.append("one pass"))
    monkeypatch.setitem(sys.modules, "nncf", nncf)
    monkeypatch.setitem(sys.modules, "stagelib.onepass", onepass)
    monkeypatch.setattr("stagelib.onepass", onepass, raising=False)


def test_one_pass_is_kept_to_the_release_it_was_compared_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    events = io.StringIO()
    call = Call(stage="q", inputs={}, output=tmp_path, scratch=tmp_path, events=events)
    params = Params(batch_size=1, sequence_length=8)
    for version in (f"{COMPARED_WITH}.7", f"{COMPARED_WITH}9.0", "4.0.0"):
        nncf_of(version, monkeypatch, calls)
        _quantize(call, "model", [], params, {})  # type: ignore[arg-type]
    assert calls == ["one pass", "NNCF", "NNCF"]
    assert f"one pass is for NNCF {COMPARED_WITH}, and this is 4.0.0" in events.getvalue()


def test_what_one_pass_cannot_take_is_left_to_nncf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []
    nncf_of(f"{COMPARED_WITH}.0", monkeypatch, calls)

    def refuse(*_: object, **__: object) -> None:
        raise InternalError("a free number of channels")

    monkeypatch.setattr("stagelib.onepass.quantize", refuse)
    events = io.StringIO()
    call = Call(stage="q", inputs={}, output=tmp_path, scratch=tmp_path, events=events)
    made = _quantize(call, "model", [], Params(batch_size=1, sequence_length=8), {})  # type: ignore[arg-type]
    assert (calls, made[1]) == (["NNCF"], "NNCF's own")
    assert "NNCF's own way: a free number of channels" in events.getvalue()


def test_that_release_is_the_one_that_is_locked() -> None:
    """Another one: run tests/scenarios/test_one_pass.py with it, mend what differs, and set COMPARED_WITH."""
    lock = (this_project().root / "docker" / "openvino" / "requirements.lock").read_text()
    assert f"\nnncf=={COMPARED_WITH}." in lock


@pytest.mark.parametrize("kind", [InternalError, ValidationError])
@pytest.mark.parametrize(("kinds", "hint"), [(["MatMul", "If"], "fix_shape"), (["MatMul"], "")])
def test_a_graph_that_nncf_cannot_take_is_no_traceback(
    kinds: list[str], hint: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    nncf_of("1", monkeypatch, [])
    model = SimpleNamespace(get_ops=lambda: [SimpleNamespace(get_type_name=lambda kind=kind: kind) for kind in kinds])
    with pytest.raises(StageError, match="can't quantize this model: no node") as raised, _explained(model):
        raise kind("no node")
    assert hint in raised.value.hint
    assert bool(hint) == bool(raised.value.hint)


def test_one_pass_is_the_default() -> None:
    assert Params(batch_size=1, sequence_length=8).one_pass
