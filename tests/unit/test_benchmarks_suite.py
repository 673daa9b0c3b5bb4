"""The suite: what it skips and why, what it writes into the document, and that every part has its place there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from benchmarks import __main__ as suite_command
from benchmarks import images, scale
from benchmarks.document import DOCUMENT, parts_of, section, tables_in, with_table
from benchmarks.figures import Figure, markdown
from benchmarks.made import package_key
from benchmarks.processes import Cost
from benchmarks.suite import PARTS, Command, MissingError, Options, command_of

PAGE = "# Costs\n\nBefore.\n\n<!-- scale -->\nold\n<!-- /scale -->\n\nAfter.\n"


def test_a_table_takes_the_place_of_the_last_one_and_the_prose_stays() -> None:
    assert with_table(PAGE, "scale", "| new |\n") == PAGE.replace("old", "| new |")


@pytest.mark.parametrize("page", ["# Costs\n", "<!-- scale -->\nold\n"])
def test_a_page_without_a_place_says_which_lines_to_add(page: str) -> None:
    with pytest.raises(RuntimeError, match="<!-- scale --> and <!-- /scale -->"):
        with_table(page, "scale", "| new |")


def test_tables_are_found_among_other_output() -> None:
    table = markdown([Figure(name="plan", unit="s", ours=[1.0], limit=2)])
    assert tables_in(f"warming\n{table}\n\nload: 1\n") == table
    with pytest.raises(RuntimeError, match="no table"):
        tables_in("nothing\n")


def test_a_section_names_its_command_first() -> None:
    assert section("python -m x", ["2026", "a CPU"], "| t |") == "`python -m x`\n2026; a CPU.\n\n| t |"


def test_every_part_has_its_place_in_the_document_and_its_module() -> None:
    assert parts_of(DOCUMENT.read_text(encoding="utf-8")) == list(PARTS)


def test_a_part_without_its_model_is_skipped_with_the_reason(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = Options(real=tmp_path, peer="venv")
    with pytest.raises(MissingError, match="make model"):
        command_of("startup", given)
    assert suite_command.run(["startup", "peer-real"], given, None, named=False) == []
    assert suite_command.run(["startup"], given, None) == ["startup"]
    assert capsys.readouterr().out.count("skipped: no model in") == 3


def test_what_can_not_be_made_is_a_failure_and_no_skip(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> NoReturn:
        raise RuntimeError("making the model ended with exit code 5")

    monkeypatch.setattr("benchmarks.suite.make", failing)
    assert suite_command.run(["inference"], Options(), None, named=False) == ["inference"]
    assert "inference: failed: making the model ended" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "wrong"), [(scale, "--repeats=10"), (scale, "--repeats=0"), (images, "--rebuild=ort,no-such")]
)
def test_a_part_refuses_at_once_what_it_could_not_end(
    module: ModuleType, wrong: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", wrong])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert wrong.split("=", maxsplit=1)[0] in capsys.readouterr().err


def test_similarity_needs_the_peer(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="--peer"):
        command_of("peer-real", Options(real=tmp_path))


def test_the_peers_part_is_run_without_the_peer_too() -> None:
    command = command_of("peer", Options())
    assert importlib.util.find_spec(f"benchmarks.{command.module}")
    assert "--peer=" in command.arguments


def test_a_part_that_fails_is_named_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def pretended(line: list[str], *_: object, **__: object) -> Cost:
        failed = "benchmarks.scale" not in line
        return Cost(wall_s=1, cpu_s=1, peak_bytes=1, code=int(failed), out="no room\n" if failed else "| a |\n")

    document = tmp_path / "performance.md"
    document.write_text(PAGE)
    monkeypatch.setattr(suite_command, "timed", pretended)
    assert suite_command.run(["peer", "scale"], Options(), document) == ["peer"]
    assert "peer: failed: peer ended with exit code 1:\nno room" in capsys.readouterr().out
    written = document.read_text()
    assert "`python -m benchmarks scale`" in written
    assert "| a |" in written
    assert "After." in written


def test_a_command_runs_by_its_own_interpreter() -> None:
    command = Command(module="peer", arguments=("--x",), python=Path("/venv/python"))
    assert command.line == ["/venv/python", "-m", "benchmarks.peer", "--x"]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        suite_command.main(["speed"])
    assert "no part speed" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--repeats=0", "--repeats=-1", "--peer=/nowhere/at-all"])
def test_what_can_not_be_measured_is_refused_at_once(capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    with pytest.raises(SystemExit) as ended:
        suite_command.main(["scale", wrong])
    assert ended.value.code == 2
    assert wrong.split("=", maxsplit=1)[0] in capsys.readouterr().err


def test_what_was_made_is_read_from_what_the_run_printed() -> None:
    out = "openvino 8/8 package: 2.0 s\nr_static: made, 24.7 MB, not judged: artifacts/store/01/01ab/files\n"
    assert package_key(out, "r_static") == "01ab"
    with pytest.raises(RuntimeError, match="was not made"):
        package_key(out, "other")
