"""The CI matrix: every target's jobs from its file, and the workflow that takes them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from portwright.device_locks import load_device_locks
from portwright.errors import RecipeError, UsageError
from portwright.matrix import ImageRow, Row, image_rows, rows, text
from portwright.project import this_project
from portwright.stages import StageLibrary
from portwright.target import Catalog
from portwright.toolchain import load_toolchains

PROJECT = this_project()
LOCKS = load_device_locks(PROJECT)
WORKFLOW = (PROJECT.root / ".github" / "workflows" / "targets.yml").read_text()
THROWAWAY = """
name = "throwaway"
title = "A machine of a test"
toolchains = ["exporter", "ort"]
default_recipe = "throwaway_fp32"
runs_on = ["ubuntu-24.04", "large"]
timeout_minutes = 45

[runtime]
name = "onnxruntime"
device = "CPU"

[devices.npu]
title = "An NPU of a test"
runtime = "onnxruntime"
device = "CPU"
systems = ["windows"]
install = "its driver"
runs_on = ["self-hosted", "Windows", "ARM64", "throwaway-npu"]
timeout_minutes = 15

[devices.gpu]
title = "A GPU with no runner"
runtime = "onnxruntime"
device = "CPU"
install = "its driver"

[devices.dsp]
title = "A DSP whose runner says nothing of its system"
runtime = "onnxruntime"
device = "CPU"
install = "its driver"
runs_on = ["throwaway-dsp"]
"""


def catalog(targets: Path) -> Catalog:
    return Catalog(targets, load_toolchains(PROJECT.docker), StageLibrary(PROJECT.shared))


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    """A folder with the target `cpu` and a target that the repository doesn't have."""
    shutil.copytree(PROJECT.targets / "cpu", tmp_path / "targets" / "cpu")
    folder = tmp_path / "targets" / "throwaway" / "recipes"
    folder.mkdir(parents=True)
    (folder.parent / "target.toml").write_text(THROWAWAY)
    source = PROJECT.targets / "cpu" / "recipes" / "bert-base-portuguese-cased_fp32_cpu.json"
    recipe = json.loads(source.read_text()) | {"name": "throwaway_fp32", "target": "throwaway"}
    (folder / "throwaway_fp32.json").write_text(json.dumps(recipe))
    return tmp_path / "targets"


def test_a_target_shows_up_by_its_folder(targets: Path) -> None:
    found = [row for row in rows(catalog(targets), LOCKS) if row.target == "throwaway"]
    assert [(row.device, row.runs_on, row.timeout_minutes, row.platform, row.bundle) for row in found] == [
        ("none", ("ubuntu-24.04", "large"), 45, "", ""),
        (
            "npu",
            ("self-hosted", "Windows", "ARM64", "throwaway-npu"),
            15,
            "win-arm64",
            "throwaway_fp32-win-arm64.zip",
        ),
        ("dsp", ("throwaway-dsp",), 60, "", ""),
    ]
    assert all(row.bundled and row.bundles == "bundles.throwaway.throwaway_fp32" for row in found)
    assert {row.recipe for row in found} == {"throwaway_fp32"}


def test_every_recipe_of_the_repository_compiles_without_a_device() -> None:
    here = catalog(PROJECT.targets)
    found = [(row.target, row.recipe) for row in rows(here, LOCKS) if row.device == "none"]
    assert found == [(target.name, recipe) for target in here.targets.values() for recipe in target.recipe_paths]


def test_names_are_unique_and_can_name_an_upload() -> None:
    names = [row.name for row in rows(catalog(PROJECT.targets), LOCKS)]
    assert len(set(names)) == len(names)
    assert not re.search(r'["<>|*?:\r\n\\/]', "".join(names))


def test_images_are_built_once_for_targets_that_share_them(targets: Path) -> None:
    here = catalog(targets)
    assert [row.name for row in image_rows(here)] == ["cpu"]
    assert {row.image_key for row in rows(here, LOCKS)} == {row.image_key for row in image_rows(here)}


@pytest.mark.parametrize(("toolchain", "follows"), [("ort", True), ("qnn", True), ("directml", False)])
def test_the_image_key_follows_the_toolchains(targets: Path, tmp_path: Path, toolchain: str, *, follows: bool) -> None:
    """Those of devices too; but no image is of what serves Windows alone."""
    shutil.copytree(PROJECT.docker, tmp_path / "docker")
    shutil.rmtree(targets / "cpu")
    file = targets / "throwaway" / "target.toml"
    file.write_text(file.read_text().replace("[devices.npu]", '[devices.npu]\ntoolchains = ["qnn", "directml"]'))
    library = StageLibrary(PROJECT.shared)
    before = image_rows(Catalog(targets, load_toolchains(tmp_path / "docker"), library))[0].image_key
    with (tmp_path / "docker" / toolchain / "requirements.lock").open("a") as lock:
        lock.write("# another lock\n")
    after = image_rows(Catalog(targets, load_toolchains(tmp_path / "docker"), library))[0].image_key
    assert (after != before) is follows


def test_github_gets_one_line_that_it_can_read(targets: Path) -> None:
    line = text(catalog(targets), LOCKS, format_="github", jobs="device")
    assert "\n" not in line
    assert [row["device"] for row in json.loads(line)["include"]] == ["npu", "dsp"]
    indented = text(catalog(targets), LOCKS, format_="json", jobs="compile")
    assert {row["device"] for row in json.loads(indented)["include"]} == {"none"}


def test_no_device_job_is_an_empty_matrix_that_the_workflow_knows(targets: Path) -> None:
    shutil.rmtree(targets / "throwaway")
    line = text(catalog(targets), LOCKS, format_="github", jobs="device")
    assert f"needs.plan.outputs.device != '{line}'" in WORKFLOW


def test_more_jobs_than_github_runs_are_refused(targets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portwright.matrix.MOST_JOBS", 4)
    with pytest.raises(RecipeError, match="the matrix has 5 jobs"):
        text(catalog(targets), LOCKS, format_="github", jobs="all")
    assert len(json.loads(text(catalog(targets), LOCKS, format_="json", jobs="all"))["include"]) == 5


@pytest.mark.parametrize(("format_", "jobs", "told"), [("xml", "all", "--format=xml"), ("json", "some", "--jobs=some")])
def test_unknown_options_are_refused(targets: Path, format_: str, jobs: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        text(catalog(targets), LOCKS, format_=format_, jobs=jobs)


def test_the_workflow_takes_only_what_a_row_has() -> None:
    used = set(re.findall(r"(?<![\w.])matrix\.(\w+)", WORKFLOW))
    assert used <= set(Row.model_fields) | set(ImageRow.model_fields)
    assert {"runs_on", "timeout_minutes", "image_key", "upload"} <= used


def test_the_workflow_only_calls_invoke_make_and_scripts() -> None:
    commands = re.findall(r"^\s*(?:- )?run: (.+)$", WORKFLOW, re.MULTILINE)
    assert commands
    assert all(re.match(r"(\.venv/bin/invoke|make|scripts/|python scripts/)", command) for command in commands)


def test_what_a_job_runs_starts_the_workflow_when_it_changes() -> None:
    head = WORKFLOW.partition("schedule:")[0]
    for path in ("scripts/**", "Makefile", "requirements.lock", "pyproject.toml", "tasks.py", "portwright/**"):
        assert f"- {path}\n" in head


def test_actions_are_pinned_by_commit() -> None:
    uses = re.findall(r"uses: (\S+)(.*)", WORKFLOW)
    assert uses
    assert all(re.search(r"@[0-9a-f]{40}$", action) and "# v" in comment for action, comment in uses)
