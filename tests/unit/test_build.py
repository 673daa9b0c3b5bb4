"""`invoke build`: a target's toolchains, its devices' own included, and nothing cleaned away meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from portwright import bundle as bundles
from portwright import making
from portwright.board import Board
from portwright.bundle import BundleRequest
from portwright.engines.base import EventSink
from portwright.engines.choose import Choice
from portwright.engines.kinds import EngineKind
from portwright.errors import StoreError
from portwright.locks import Usage
from portwright.project import ARTIFACTS_VARIABLE, Project, this_project
from portwright.toolchain import Toolchain


class Builder:
    """An engine that says what it was asked to build, and sees that nobody may clean meanwhile."""

    def __init__(self, kind: EngineKind, artifacts: Path) -> None:
        self.kind = kind
        self._artifacts = artifacts
        self.prepared: list[str] = []

    def prepare(self, toolchain: Toolchain, on_event: EventSink) -> bool:
        del on_event
        must_not_be_cleaned(self._artifacts)
        self.prepared.append(toolchain.name)
        return True

    def close(self) -> None:
        pass


def must_not_be_cleaned(artifacts: Path) -> None:
    with pytest.raises(StoreError, match="a run is using"), Usage(artifacts).cleaning():
        pass


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv(ARTIFACTS_VARIABLE, str(tmp_path))
    return Project(this_project().root)


@pytest.mark.parametrize(
    ("kind", "system", "target", "expected"),
    [
        ("venv", "windows", "dml", ["exporter", "ort", "directml"]),
        ("venv", "linux", "dml", ["exporter", "ort"]),
        ("docker", "windows", "dml", ["exporter", "ort"]),
        ("venv", "linux", "openvino", ["exporter", "ort", "openvino"]),
    ],
)
def test_all_that_this_system_can_have_is_built(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    kind: EngineKind,
    system: str,
    target: str,
    expected: list[str],
) -> None:
    builder = Builder(kind, project.artifacts)
    monkeypatch.setattr(making, "open_engine", lambda *_: builder)
    monkeypatch.setattr(making, "choose", lambda _: Choice(kind, "a test says so"))
    monkeypatch.setattr(making, "this_system", lambda: system)
    assert making.build(project, target, None, Board()) == builder.prepared == expected


def test_nothing_is_cleaned_under_a_bundle(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def last_run(project: Project, _: object) -> None:
        must_not_be_cleaned(project.artifacts)
        asked.append(project)
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles, "last_run", last_run)
    request = BundleRequest(recipe="bert-base-portuguese-cased_qdq_cpu", model="synthetic:bert-tiny", out="b.zip")
    with pytest.raises(KeyboardInterrupt):
        bundles.bundle(project, request)
    assert asked == [project]
