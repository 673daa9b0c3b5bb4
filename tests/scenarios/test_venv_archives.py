"""Vendor archives in a virtual environment: the same program builds them in, and they may replace what is locked."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from portwright.engines.venv import VenvEngine
from portwright.errors import EngineError
from portwright.packages import PackageSettings, read_settings
from portwright.project import this_project
from portwright.toolchain import Toolchain
from support.stand_in import make_tar, make_wheel, present, stand_in_toolchain

REPLACED = "flatbuffers"
SEE = """
import json, sys, flatbuffers
from importlib import metadata
from pathlib import Path
vendor = Path(sys.prefix) / "vendor"
print(json.dumps({
    "answer": getattr(flatbuffers, "ANSWER", None),
    "names": sorted(dist.metadata["Name"] for dist in metadata.distributions()),
    "beside": (Path(flatbuffers.__file__).parent / "libs" / "libx.so").is_file(),
    "sdk": sorted(path.name for path in vendor.rglob("*")),
}))
"""


def locked(name: str) -> str:
    """The lines of a real lock that pin one small package."""
    text = (this_project().docker / "ort" / "requirements.lock").read_text()
    found = re.search(rf"^{name}==(?:.*\\\n)*.*\n", text, re.MULTILINE)
    assert found is not None
    return found[0]


def prepare(folder: Path, toolchain: Toolchain, settings: PackageSettings) -> dict[str, object]:
    engine = VenvEngine(folder, folder / "venvs", settings)
    assert engine.prepare(toolchain, lambda _: None) is True
    assert engine.prepare(toolchain, lambda _: None) is False
    done = subprocess.run([engine.python(toolchain), "-c", SEE], capture_output=True, text=True, check=True)
    value: dict[str, object] = json.loads(done.stdout)
    return value


def test_an_archive_takes_the_place_of_what_it_replaces(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "vendor_buffers", "9.0", {"flatbuffers/__init__.py": "ANSWER = 42\n"})
    libraries = make_tar(tmp_path / "libraries.tgz", {"libx.so": "code"})
    sdk = make_tar(tmp_path / "sdk.tgz", {"tool": "program"})
    lock = locked(REPLACED)
    plain = prepare(tmp_path, stand_in_toolchain(tmp_path, lock=lock), read_settings())
    assert plain == {"answer": None, "names": [REPLACED], "beside": False, "sdk": []}
    archives = [
        present(libraries, "libraries", "tar", place="flatbuffers/libs"),
        present(sdk, "sdk", "tar"),
        present(wheel, "wheel", "wheel", provides=("vendor-buffers",), replaces=("FlatBuffers",)),
    ]
    with_them = prepare(tmp_path, stand_in_toolchain(tmp_path, archives, lock), read_settings())
    assert with_them == {"answer": 42, "names": ["vendor_buffers"], "beside": True, "sdk": ["sdk", "tool"]}
    # The first environment shares its files with uv's cache, and so did the second one: neither was written to.
    again = tmp_path / "again"
    assert prepare(again, stand_in_toolchain(again, lock=lock), read_settings()) == plain


def test_no_package_index_is_needed(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "flatbuffers", "9.0", {"flatbuffers/__init__.py": "ANSWER = 1\n"})
    toolchain = stand_in_toolchain(tmp_path, [present(wheel, "wheel", "wheel")])
    unreachable = PackageSettings(index="https://127.0.0.1:9/simple")
    assert prepare(tmp_path, toolchain, unreachable)["answer"] == 1


def test_an_archive_that_changed_after_it_was_verified_is_not_built_in(tmp_path: Path) -> None:
    archive = present(make_tar(tmp_path / "sdk.tgz", {"tool": "program"}), "sdk", "tar")
    toolchain = stand_in_toolchain(tmp_path, [archive])
    make_tar(tmp_path / "sdk.tgz", {"evil": "program"})
    engine = VenvEngine(tmp_path, tmp_path / "venvs", PackageSettings())
    for _ in range(2):  # half an environment is no environment
        with pytest.raises(EngineError, match=r"sdk\.tgz was changed"):
            engine.prepare(toolchain, lambda _: None)
