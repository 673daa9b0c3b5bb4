"""What devices without Docker install: a lock, a vendor's environment, or a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from portwright.device_locks import SOURCE, DeviceLocks, load_device_locks
from portwright.errors import RecipeError, UsageError
from portwright.project import this_project

PROJECT = this_project()
LOCKS = load_device_locks(PROJECT)
PAIRS = [(runtime, platform) for runtime in LOCKS.runtimes for platform in LOCKS.platforms]
PIN = re.compile(r"^([a-z0-9-]+)==([^\s\\]+)", re.MULTILINE)


@pytest.mark.parametrize(("runtime", "platform"), PAIRS)
def test_a_platform_has_a_lock_or_a_word_about_it(runtime: str, platform: str) -> None:
    file = LOCKS.runtimes[runtime].file
    said = [platform in file.vendor, platform in file.absent, LOCKS.runtimes[runtime].lock(platform).is_file()]
    assert said.count(True) == 1


@pytest.mark.parametrize(
    "lock", sorted(PROJECT.device.glob("*/*.lock")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_a_lock_is_hashed_and_names_no_place(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert "://" not in "\n".join(lines)
    assert "--hash=sha256:" in "\n".join(lines)
    assert (PROJECT.device / lock.parent.name / SOURCE).is_file()
    pinned = dict(PIN.findall(lock.read_text()))
    assert dict(PIN.findall((lock.parent / SOURCE).read_text())).items() <= pinned.items()


def test_what_compiles_a_model_is_what_runs_it() -> None:
    built: dict[str, set[str]] = {}
    for lock in PROJECT.docker.glob("*/requirements.lock"):
        for name, version in PIN.findall(lock.read_text()):
            built.setdefault(name, set()).add(version)
    for source in PROJECT.device.glob(f"*/{SOURCE}"):
        for name, version in PIN.findall(source.read_text()):
            assert version in built.get(name, {version}), f"{source}: {name}"


def test_every_lock_is_compiled_by_make_lock() -> None:
    assert {lock for _, lock, _ in LOCKS.sources()} == set(PROJECT.device.glob("*/*.lock"))


def test_what_cannot_be_had_says_why() -> None:
    with pytest.raises(UsageError, match="OpenVINO can't be had on win-arm64") as caught:
        LOCKS.requirements("openvino", "win-arm64")
    assert "no wheel" in caught.value.why
    with pytest.raises(UsageError, match="unknown platform 'win-arm46'") as caught:
        LOCKS.requirements("openvino", "win-arm46")
    assert "did you mean 'win-arm64'" in caught.value.hint
    with pytest.raises(UsageError, match="nothing says what runtime 'abacus' needs"):
        LOCKS.requirements("abacus", "linux-x64")


def test_a_vendor_environment_has_no_lock() -> None:
    found = LOCKS.requirements("vitisai", "win-x64")
    assert found.lock is None
    assert "AMD" in found.vendor


@pytest.mark.parametrize(
    ("labels", "platform"),
    [
        (("self-hosted", "Linux", "X64", "npu"), "linux-x64"),
        (("self-hosted", "windows", "arm64"), "win-arm64"),
        (("ubuntu-24.04",), None),
    ],
)
def test_a_runner_is_known_by_its_labels(labels: tuple[str, ...], platform: str | None) -> None:
    assert LOCKS.labelled(labels) == platform


def test_a_machine_is_known_by_its_own_names() -> None:
    assert LOCKS.here("Windows", "ARM64") == "win-arm64"
    assert LOCKS.here("Linux", "aarch64") == "linux-arm64"
    assert LOCKS.here("Darwin", "arm64") is None


def test_a_mistyped_platform_in_a_runtime_is_refused(tmp_path: Path) -> None:
    (tmp_path / "platforms.toml").write_text((PROJECT.device / "platforms.toml").read_text())
    (tmp_path / "abacus").mkdir()
    (tmp_path / "abacus" / "runtime.toml").write_text(
        'title = "Abacus"\nserves = ["abacus"]\n[absent]\nwin-arm46 = "x"\n'
    )
    with pytest.raises(RecipeError, match="unknown platform 'win-arm46'"):
        DeviceLocks(tmp_path)


def test_a_checkout_without_device_locks_still_plans(tmp_path: Path) -> None:
    assert DeviceLocks(tmp_path / "none").runtimes == {}


def test_the_table_in_the_docs_is_true() -> None:
    text = (PROJECT.root / "docs" / "on-device.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    header = next(line for line in lines if line[0] == "runtime")
    seen = set()
    for line in lines[lines.index(header) + 2 :]:
        for runtime in line[0].split(", "):
            seen.add(runtime)
            for platform, cell in zip(header[1:], line[1:], strict=True):
                file = LOCKS.runtimes[runtime].file
                kind = "absent" if platform in file.absent else "vendor" if platform in file.vendor else "lock"
                said = "lock" if cell == "lock" else "absent" if cell.startswith("none") else "vendor"
                assert said == kind, (runtime, platform)
    assert seen == set(LOCKS.runtimes)
