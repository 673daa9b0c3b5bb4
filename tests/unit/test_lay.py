"""docker/base/lay.py: an environment is laid out with its content, names and modes, and one time."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

import pytest

from portwright.project import this_project

TIME = 1_704_067_200


def load() -> Any:
    found = util.spec_from_file_location("lay", this_project().docker / "base" / "lay.py")
    assert found is not None
    assert found.loader is not None
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


lay = load()


@pytest.fixture
def laid(tmp_path: Path) -> tuple[Path, Path]:
    """An environment whose files are a package cache's by another name, and where it was laid out."""
    cache, source, target = (tmp_path / name for name in ("cache", "from", "to"))
    cache.write_bytes(b"x" * 5_000_000)
    (source / "lib" / "empty").mkdir(parents=True)
    (source / "lib" / "large").hardlink_to(cache)
    (source / "lib" / "large again").hardlink_to(cache)
    (source / "lib" / "none").touch()
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (source / "lib64").symlink_to("lib")
    (source / "nowhere").symlink_to("/not/here")
    lay.main(str(source), str(target), TIME)
    return source, target


def test_names_content_and_modes_are_the_same(laid: tuple[Path, Path]) -> None:
    source, target = laid
    names = [sorted(path.relative_to(top).as_posix() for path in top.rglob("*")) for top in laid]
    assert names[0] == names[1]
    for name in ("lib/large", "lib/none", "run"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
        assert (target / name).stat().st_mode == (source / name).stat().st_mode
    assert [(target / name).readlink() for name in ("lib64", "nowhere")] == [Path("lib"), Path("/not/here")]


def test_two_names_stay_one_file_and_the_caches_is_left_alone(laid: tuple[Path, Path]) -> None:
    source, target = laid
    large = target / "lib" / "large"
    assert large.samefile(target / "lib" / "large again")
    assert large.stat().st_nlink == 2
    assert not large.samefile(source / "lib" / "large")
    large.write_text("changed")
    assert (source / "lib" / "large").read_bytes() == b"x" * 5_000_000


def test_every_time_is_the_one_that_was_given(laid: tuple[Path, Path]) -> None:
    _, target = laid
    assert {path.lstat().st_mtime for path in (target, *target.rglob("*"))} == {TIME}


def test_a_file_that_ends_early_is_said_and_not_waited_for(
    laid: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lay.os, "sendfile", lambda *_: 0)
    with pytest.raises(OSError, match="became shorter"):
        lay.main(str(laid[0]), str(tmp_path / "again"), TIME)


def test_what_is_there_is_not_written_over(laid: tuple[Path, Path]) -> None:
    source, target = laid
    with pytest.raises(FileExistsError):
        lay.main(str(source), str(target), TIME)
