"""Quark's needs, said before it fails in a compiler's words."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from stagelib.api import Call, StageError
from stagelib.stages import quantize_quark
from stagelib.stages.quantize_quark import Params


def test_a_missing_compiler_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    call = Call(stage="quantize_quark", inputs={}, output=tmp_path, scratch=tmp_path, events=io.StringIO())
    with pytest.raises(StageError, match=r"C\+\+ compiler") as caught:
        quantize_quark._import_quark(call)
    assert "apt-get install g++" in caught.value.hint


def test_missing_headers_are_named_with_what_installs_them(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"Python\.h is missing") as caught:
        quantize_quark._need_compiler("/usr/bin/c++", tmp_path / "Python.h")
    assert f"python{sys.version_info.major}.{sys.version_info.minor}-dev" in caught.value.hint
    (tmp_path / "Python.h").touch()
    quantize_quark._need_compiler("/usr/bin/c++", tmp_path / "Python.h")


def test_some_text_must_calibrate() -> None:
    with pytest.raises(ValueError, match="samples"):
        Params(samples=0)
