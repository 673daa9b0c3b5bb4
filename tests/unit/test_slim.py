"""docker/base: what may be left out of an image, and what stays whatever a rule says."""

from __future__ import annotations

import shutil
import struct
import sys
from contextlib import nullcontext
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from portwright.project import this_project
from portwright.toolchain import load_toolchains

BASE = this_project().docker / "base"
CACHED = f"__init__.{sys.implementation.cache_tag}.pyc"


def load(name: str) -> ModuleType:
    found = util.spec_from_file_location(name, BASE / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = sys.modules[name] = util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


rules_of: Any = load("rules")
symbols: Any = load("symbols")
slim: Any = load("slim")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small site-packages that slim takes for its own."""
    top = tmp_path / "site-packages"
    for name in ("a/__init__.py", "a/tests/test_a.py", "a/tests/LICENSE", "a/tests/deep/data", "b/models/x/m.py"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("pass\n")
    (top / "a-1.dist-info").mkdir()
    (top / "a-1.dist-info" / "RECORD").write_text("a/tests/test_a.py,,\n")
    monkeypatch.setattr(slim.sysconfig, "get_paths", lambda: {"purelib": str(top)})
    monkeypatch.setattr(slim, "ProcessPoolExecutor", lambda: nullcontext(SimpleNamespace(map=in_this_process)))
    return top


def in_this_process(work: Any, items: list[Any], chunksize: int) -> list[Any]:
    del chunksize
    return [work(item) for item in items]


def rules(folder: Path, text: str) -> str:
    path = folder / "slim.toml"
    path.write_text(text)
    return str(path)


def files(top: Path) -> set[str]:
    return {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}


def test_what_a_rule_names_goes_and_licences_stay(
    packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slim.main(
        tmp_path / "cache",
        [rules(tmp_path, '[[leave_out]]\nwhy = "tests"\npaths = ["**/tests", "**/deep", "*/RECORD"]\n')],
    )
    left = files(packages)
    assert {name for name in left if "tests" in name} == {"a/tests/LICENSE"}
    assert not (packages / "a" / "tests" / "deep").exists()
    assert "a-1.dist-info/RECORD" in left
    assert "left out: 0.0 MB of 2 paths, tests" in capsys.readouterr().out


def test_all_is_compiled_but_what_a_rule_names(packages: Path, tmp_path: Path) -> None:
    (packages / "b" / "models" / "y").mkdir()
    (packages / "b" / "models" / "y" / "n.py").write_text("pass\n")
    text = '[[no_bytecode]]\nwhy = "many"\npaths = ["b/models/*"]\nbut = ["b/models/y"]\n'
    slim.main(tmp_path / "cache", [rules(tmp_path, text)])
    compiled = {name.partition(".")[0] for name in files(packages) if name.endswith(".pyc")}
    assert compiled == {"a/__pycache__/__init__", "a/tests/__pycache__/test_a", "b/models/y/__pycache__/n"}
    [made] = (packages / "a" / "__pycache__").iterdir()
    assert struct.unpack("<I", made.read_bytes()[4:8]) == (1,), "an unchecked hash: no time in it"


def test_bytecode_is_the_caches_own_file_by_another_name(packages: Path, tmp_path: Path) -> None:
    slim.main(tmp_path / "cache", [])
    [made] = (packages / "a" / "__pycache__").iterdir()
    assert any(made.samefile(kept) for kept in (tmp_path / "cache").iterdir())


def test_what_an_earlier_build_compiled_is_taken_and_an_edit_is_not(
    packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (packages / "a" / "template.py").write_text("{{ no Python }} =\n")
    slim.main(tmp_path / "cache", [])
    first = (packages / "a" / "__pycache__" / CACHED).read_bytes()
    shutil.rmtree(packages / "a" / "__pycache__")
    (packages / "b" / "models" / "x" / "m.py").write_text("edited = True\n")
    slim.main(tmp_path / "cache", [])
    assert (packages / "a" / "__pycache__" / CACHED).read_bytes() == first
    said = [line for line in capsys.readouterr().out.splitlines() if "compiled" in line]
    assert said == [f"compiled: {new} of 4 files, the rest by an earlier build" for new in (3, 1)]


def test_two_builds_may_compile_the_same_source_at_once(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, compile_one, builds = packages / "a" / "__init__.py", slim.py_compile.compile, [1]
    (tmp_path / "cache").mkdir()

    def beside(*given: Any, **more: Any) -> Any:
        compile_one(*given, **more)
        if builds.pop():
            builds.append(0)
            assert slim.compile_file(tmp_path / "cache", source)

    monkeypatch.setattr(slim.py_compile, "compile", beside)
    assert slim.compile_file(tmp_path / "cache", source)
    [kept] = (tmp_path / "cache").iterdir()
    assert kept.samefile(packages / "a" / "__pycache__" / CACHED)


def test_equal_files_become_one_and_keep_both_names(packages: Path) -> None:
    large = b"x" * slim.LARGE
    first, again, other, small = (packages / "b" / name for name in ("1.so", "2.so", "3.so", "4.so"))
    for path, content in ((first, large), (again, large), (other, large[1:] + b"y"), (small, b"x")):
        path.write_bytes(content)
    runs = packages / "b" / "5.so"
    shutil.copyfile(first, runs)
    runs.chmod(0o755)
    (packages / "b" / "6.so").symlink_to("1.so")
    assert slim.link_equal(packages) == [(first, again)]
    assert first.samefile(again)
    assert again.read_bytes() == large
    assert not first.samefile(other)
    assert not first.samefile(runs), "its mode differs"


def test_a_build_that_differs_in_a_few_pages_is_kept_once(packages: Path, tmp_path: Path) -> None:
    content = bytes(range(256)) * 512
    first, near, far, shorter = (packages / "b" / f"{name}.so" for name in ("first", "near", "far", "shorter"))
    first.write_bytes(content)
    near.write_bytes(b"$ORIGIN" + content[7:])
    far.write_bytes(bytes(reversed(content)))
    shorter.write_bytes(content[1:])
    text = '[[same_library]]\nwhy = "copies"\npaths = ["b/first.so", "b/[nfs]*.so"]\n'
    for _ in range(2):
        slim.main(tmp_path / "cache", [rules(tmp_path, text)])
        assert [path.samefile(first) for path in (near, far, shorter)] == [True, False, False]
        assert near.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[leave_out]]\nwhy = "x"\npaths = ["/etc"]\n', "leads out of site-packages"),
        ('[[leave_out]]\nwhy = "x"\npaths = ["a/../../b"]\n', "leads out of site-packages"),
        ('[[leave_out]]\nwhy = "x"\npaths = ["**/*"]\n', "names all of it"),
        ('[[leave_out]]\npaths = ["a"]\n', "why"),
        ("no TOML", "slim.toml: "),
        ('[[remove]]\nwhy = "x"\npaths = ["a"]\n', "remove is no kind of rule"),
    ],
)
def test_a_rule_that_can_not_be_meant_so_is_refused(packages: Path, tmp_path: Path, text: str, words: str) -> None:
    before = files(packages)
    with pytest.raises(rules_of.RefusedError, match=words):
        slim.main(tmp_path / "cache", [rules(tmp_path, text)])
    assert files(packages) == before


def test_the_rules_of_every_toolchain_are_read_and_enter_its_digest(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    shutil.copytree(this_project().docker, docker)
    for toolchain in load_toolchains(docker).values():
        for place, path in toolchain.slimmer.items():
            assert path.is_file()
            assert not place.endswith(".toml") or rules_of.read(path)
        before = toolchain.digest("docker")
        with (toolchain.folder / "slim.toml").open("a") as file:
            file.write("# changed\n")
        assert toolchain.read_again().digest("docker") != before


def elf(strings: bytes, *, loaded_behind: bool = False, names_last: bool = True) -> bytes:
    """A library of one loaded section, a symbol table with its strings, and the names of its sections."""
    code, table, names = b"\x90" * 64, b"s" * 24 * 50, b"\0.text\0.symtab\0.strtab\0.shstrtab\0"
    start = symbols.HEADER.size + symbols.SEGMENT.size
    places = [start, start + len(code), start + len(code) + len(table), start + len(code) + len(table) + len(strings)]
    end = places[3] + len(names)
    sections_at = end + -end % 8
    made = [
        (0,) * 10,
        (1, 1, symbols.LOADED, 0, places[0], len(code), 0, 0, 8, 0),
        (7, symbols.SYMBOLS, 0, 0, places[1], len(table), 3, 0, 8, 24),
        (15, 3, symbols.LOADED if loaded_behind else 0, 0, places[2], len(strings), 0, 0, 1, 0),
        (23, 3, 0, 0, places[3], len(names), 0, 0, 1, 0),
    ]
    header = (symbols.MAGIC.ljust(16, b"\0"), 3, 62, 1, 0, symbols.HEADER.size, sections_at, 0, 64, 56, 1, 64, 5)
    segment = symbols.SEGMENT.pack(1, 5, 0, 0, 0, places[1], places[1], 4096)
    head = symbols.HEADER.pack(*header, 4 if names_last else 3) + segment
    content: bytes = (head + code + table + strings + names).ljust(sections_at, b"\0")
    return content + b"".join(symbols.SECTION.pack(*section) for section in made)


def test_symbols_go_and_what_is_loaded_stays(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    before = elf(b"t" * 1000)
    path.write_bytes(before)
    assert symbols.take_off(path) == len(before) - path.stat().st_size
    after = path.read_bytes()
    assert len(before) - len(after) in range(2190, 2210)
    start = symbols.HEADER.size
    assert after[start : start + 56 + 64] == before[start : start + 56 + 64]
    fields = symbols.HEADER.unpack(after[:start])
    with path.open("rb") as file:
        found = [symbols.Section(entry) for entry in symbols.table(file, symbols.SECTION, fields[6], fields[12])]
    assert [section.kind for section in found] == [0, 1, 0, 0, 3]
    names = found[fields[13]]
    assert after[names.start : names.start + names.size].split(b"\0")[1] == b".text"
    assert symbols.take_off(path) == 0, "there are none any more"


def test_symbols_go_where_a_rule_says(packages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("1.so", "2.so"):
        (packages / "b" / name).write_bytes(elf(b"t" * 1000))
    symbols.main([rules(tmp_path, '[[no_symbols]]\nwhy = "large"\npaths = ["b/1.so"]\n')])
    one, two = (len((packages / "b" / name).read_bytes()) for name in ("1.so", "2.so"))
    assert one < two == len(elf(b"t" * 1000))
    assert "symbols taken off: 0.0 MB of 1 paths, large" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [b"", b"text", elf(b"t" * 9, loaded_behind=True), elf(b"t" * 9, names_last=False), b"\x7fELF\x01\x01" * 40],
)
def test_what_is_laid_out_otherwise_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    assert symbols.take_off(path) == 0
    assert path.read_bytes() == content
