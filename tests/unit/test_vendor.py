"""Vendor archives: verified where they are there, named where they aren't, and part of what a toolchain is."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from portwright.calls import RecipePlan
from portwright.digests import DigestMemory
from portwright.errors import RecipeError
from portwright.listing import list_text
from portwright.matrix import image_rows
from portwright.plan import Planner
from portwright.project import VENDOR_VARIABLE, Project, this_project
from portwright.sources import parse_model
from portwright.stages import StageLibrary
from portwright.target import Catalog
from portwright.target_file import ArchiveSpec, read_target_file
from portwright.toolchain import Toolchain, load_toolchains
from portwright.vendor import Archives, PresentArchive, find_archives, manifest

CONTENT = b"a vendor's own"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TARGET = """
name = "{name}"
title = "t"
toolchains = ["tc"]
default_recipe = "r"
[runtime]
name = "onnxruntime"
device = "CPU"
[[archives]]
"""
ARCHIVE: dict[str, Any] = {
    "name": "compiler",
    "title": "the compiler",
    "version": "1.2",
    "file": "compiler-1.2.tgz",
    "sha256": DIGEST,
    "licence": "read it",
    "source": "the vendor's download page",
    "toolchain": "tc",
    "kind": "tar",
    "gives": "compiled models",
}


class Place:
    """A checkout's targets, toolchains and vendor folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.vendor = root / "vendor"
        self.vendor.mkdir()
        for name in ("tc", "base"):
            (root / "docker" / name).mkdir(parents=True)
        (root / "docker/tc/Dockerfile").write_text("FROM x")
        (root / "docker/tc/requirements.lock").write_text("onnxruntime==1.0 --hash=sha256:0\nnumpy==2.0\n")

    def declare(self, target: str = "one", text: str = "", **changes: Any) -> None:
        """A target's file, made up or `text`, that ends with the archive."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**ARCHIVE, **changes}.items()]
        path = self.root / "targets" / target / "target.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = f"{text.partition('[[archives]]')[0]}\n[[archives]]\n" if text else TARGET.format(name=target)
        path.write_text(head + "\n".join(lines))

    def drop_in(self, content: bytes = CONTENT, name: str = "compiler-1.2.tgz") -> Path:
        path = self.vendor / name
        path.write_bytes(content)
        return path

    def find(self) -> Archives:
        return find_archives(self.root / "targets", self.vendor, DigestMemory(self.root / "digests.json"))

    def refused(self) -> RecipeError:
        """What is wrong with the one archive that is there: its toolchain has it to raise, and nothing of the file."""
        found = self.find()
        assert (found.present, found.missing) == ((), ())
        [archive] = found.refused
        toolchain = self.toolchain()
        assert (toolchain.archives, toolchain.faults[0].message) == ((), archive.fault.message)
        return archive.fault

    def toolchain(self) -> Toolchain:
        return load_toolchains(self.root / "docker", self.find())["tc"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_absent_archive_is_missing_and_no_error(place: Place) -> None:
    place.declare()
    found = place.find()
    assert found.present == ()
    [missing] = found.missing
    assert missing.targets == ("one",)
    text = str(missing)
    for word in ("the compiler 1.2", "compiler-1.2.tgz", str(place.vendor), "the vendor's download page", "read it"):
        assert word in text
    assert place.toolchain().archives == ()


def test_a_missing_vendor_folder_is_no_error(place: Place) -> None:
    place.declare()
    place.vendor.rmdir()
    assert len(place.find().missing) == 1


def test_a_verified_archive_is_built_into_its_toolchain_only(place: Place) -> None:
    place.declare()
    path = place.drop_in()
    found = place.find()
    assert found.missing == ()
    assert [archive.path for archive in found.built_into("tc")] == [path]
    assert found.built_into("other") == ()


def test_another_content_is_refused_with_both_digests(place: Place) -> None:
    place.declare()
    path = place.drop_in(b"something else")
    text = str(place.refused())
    for word in (str(path), DIGEST, hashlib.sha256(b"something else").hexdigest(), "the vendor's download page"):
        assert word in text


def test_an_archive_nobody_vouched_for_is_refused_with_its_digest(place: Place) -> None:
    place.declare(sha256="")
    assert len(place.find().missing) == 1
    place.drop_in()
    fault = place.refused()
    assert "is not pinned" in fault.message
    assert f'sha256 = "{DIGEST}"' in fault.hint
    assert "compare its digest with the vendor's" in fault.hint
    assert str(place.root / "targets/one/target.toml") in str(fault)


def test_a_bad_archive_stops_the_targets_that_use_it_and_no_other(place: Place) -> None:
    project = this_project()
    for name in ("cpu", "openvino"):
        shutil.copytree(project.targets / name, place.root / "targets" / name)
    place.declare(target="openvino", toolchain="openvino", text=(project.targets / "openvino/target.toml").read_text())
    place.drop_in(b"something else")
    archives = place.find()
    assert archives.present == ()
    assert archives.missing == ()
    catalog = Catalog(place.root / "targets", load_toolchains(project.docker, archives), StageLibrary(project.shared))
    assert "openvino" in list_text(catalog)
    assert [row.name for row in image_rows(catalog)] == ["cpu", "openvino"]
    assert plan_of(catalog, "cpu").calls
    with pytest.raises(RecipeError, match=r"compiler-1\.2\.tgz is not the one"):
        plan_of(catalog, "openvino")


def plan_of(catalog: Catalog, target: str) -> RecipePlan:
    [(found, recipe)] = catalog.recipes_for(catalog.select(target), None)
    model = parse_model("synthetic:bert-tiny", "main", DigestMemory(Path("nowhere")))
    return Planner(catalog, "venv").plan(found, recipe, model, None)


def test_two_targets_may_share_an_archive_and_must_agree_on_it(place: Place) -> None:
    place.declare("one")
    place.declare("two")
    assert [archive.targets for archive in place.find().missing] == [("one", "two")]
    place.declare("two", version="1.3")
    with pytest.raises(RecipeError, match=r"two/target.toml: archives.compiler: differs.*'one'(.|\n)*version"):
        place.find()
    place.declare("two", version="1.3", toolchain="other")
    assert len(place.find().missing) == 2


def test_a_large_archive_is_read_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.declare()
    place.drop_in()
    memory = DigestMemory(place.root / "digests.json")
    find_archives(place.root / "targets", place.vendor, memory)
    monkeypatch.setattr("portwright.digests.digest_file", lambda _: pytest.fail("read again"))
    assert len(find_archives(place.root / "targets", place.vendor, memory).present) == 1


def test_a_toolchain_with_an_archive_is_another_one(place: Place) -> None:
    place.declare(provides=("My_Provider",))
    without = place.toolchain()
    place.drop_in()
    with_it = place.toolchain()
    for engine in ("docker", "venv"):
        assert without.digest(engine) != with_it.digest(engine)
        assert with_it.read_again().digest(engine) == with_it.digest(engine)
    # A toolchain that has none is what it was before archives were thought of: where they come from says nothing.
    assert without.digest("docker") == Toolchain("tc", place.root / "docker/tc").digest("docker")


@pytest.mark.parametrize(
    "change",
    [{"place": "openvino/libs"}, {"inside": "lib"}, {"provides": ["a"]}, {"replaces": ["numpy"]}, {"kind": "zip"}],
)
def test_what_becomes_of_an_archive_is_part_of_the_digest(place: Place, change: dict[str, Any]) -> None:
    place.declare()
    place.drop_in()
    before = place.toolchain().digest("venv")
    place.declare(**change)
    assert place.toolchain().digest("venv") != before


def test_words_for_people_are_no_part_of_the_digest(place: Place) -> None:
    place.declare()
    place.drop_in()
    before = place.toolchain().digest("venv")
    place.declare(title="other words", licence="other words", source="other words", gives="other words")
    assert place.toolchain().digest("venv") == before


def test_a_stage_may_need_what_an_archive_provides_and_not_what_it_replaced(place: Place) -> None:
    place.declare(kind="wheel", file="a-1-py3-none-any.whl", provides=["onnxruntime_vitisai"], replaces=["OnnxRuntime"])
    assert place.toolchain().can_run(("onnxruntime", "numpy"))
    assert not place.toolchain().can_run(("onnxruntime-vitisai",))
    place.drop_in(name="a-1-py3-none-any.whl")
    toolchain = place.toolchain()
    assert toolchain.can_run(("onnxruntime-vitisai", "numpy"))
    assert not toolchain.can_run(("onnxruntime",))
    assert toolchain.packages == {"numpy": "2.0", "onnxruntime-vitisai": "1.2"}
    assert set(toolchain.locked) == {"numpy", "onnxruntime"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"place": "../outside"}, "place"),
        ({"place": "/absolute"}, "place"),
        ({"inside": "a//b"}, "inside"),
        ({"file": "../a.tgz"}, "file"),
        ({"kind": "wheel"}, "is no name of a wheel"),
        ({"file": "a.whl"}, "is no name of a tar"),
        ({"kind": "wheel", "file": "a.whl", "place": "x"}, "leave out inside and place"),
        ({"sha256": "abc"}, "sha256"),
    ],
)
def test_a_declaration_that_can_not_be_right(place: Place, change: dict[str, Any], words: str) -> None:
    place.declare(**change)
    with pytest.raises(RecipeError) as caught:
        read_target_file(place.root / "targets/one/target.toml")
    assert words in str(caught.value)


def test_the_installer_is_told_what_to_do_with_each(tmp_path: Path) -> None:
    archive = PresentArchive(ArchiveSpec(**ARCHIVE, inside="lib", place="openvino/libs"), tmp_path / "file")
    assert json.loads(manifest({archive: "vendor/file"})) == [
        {
            "name": "compiler",
            "kind": "tar",
            "sha256": DIGEST,
            "inside": "lib",
            "place": "openvino/libs",
            "replaces": [],
            "file": "vendor/file",
        }
    ]


def test_the_folder_of_archives_is_the_users_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VENDOR_VARIABLE, raising=False)
    assert Project(tmp_path).vendor == tmp_path / "vendor"
    monkeypatch.setenv(VENDOR_VARIABLE, str(tmp_path / "elsewhere"))
    assert Project(tmp_path).vendor == tmp_path / "elsewhere"
