"""What is computed of the recipes that both sides made, and what the peer is given; nothing is run."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from benchmarks import peer_sides
from benchmarks.figures import Figure
from benchmarks.peer_figures import Matrix, figures, stage_seconds
from benchmarks.peer_recipes import PUBLISHED, USER_SCRIPT, Published, write
from benchmarks.peer_sides import Disk, Taken, entry_of, folder_bytes
from benchmarks.processes import Cost
from portwright.project import this_project
from portwright.request import load_catalog

NAMES = [published.name for published in PUBLISHED]


def taken(cpu_s: float, model: str | None = "model.onnx", **stages: float) -> Taken:
    cost = Cost(wall_s=2 * cpu_s, cpu_s=cpu_s, peak_bytes=int(cpu_s * 1e8), code=0, out="")
    found = None if model is None else Path(model)
    return Taken(cost=cost, model=found, why="no | room", stages=stages, peak_bytes=int(cpu_s * 1e8))


def matrix(ours: float, peers: dict[str, Taken] | None = None) -> Matrix:
    made = {name: taken(ours, export=1.0, compile_qnn=2.0) for name in NAMES}
    return Matrix(ours=made, peers=peers or {}, disk=Disk(1_500_000_000, 300_000_000), cache_bytes=7 * 10**9)


def named(*matrices: Matrix) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(matrices)}


def test_ours_is_held_against_the_peers_sum() -> None:
    peers = {name: taken(20) for name in NAMES}
    found = named(matrix(10, peers), matrix(11, peers))
    assert found["qdq_amd, CPU"].ratio == pytest.approx(10.5 / 20)
    assert found["5 recipes, CPU"].ratio == pytest.approx(52.5 / 100)
    assert found["5 recipes, CPU"].held is False
    like = found["5 recipes, CPU, like for like: without compile_qnn and compile_trt"]
    assert like.ours == [40, 45]
    assert like.held is True


def test_a_recipe_that_the_peer_did_not_make_is_in_no_sum() -> None:
    peers = {name: taken(20) for name in NAMES} | {"dml": taken(1, model=None)}
    found = named(matrix(10, peers))
    assert found["4 recipes, CPU"].against == [80]
    assert found["4 recipes, CPU"].ours == [40]
    assert not found["dml, CPU"].against
    assert found["dml, CPU"].note == "Olive made no model, exit code 0: no / room"


def test_without_the_peer_ours_stands_alone_and_says_so() -> None:
    found = named(matrix(10))
    assert found["qdq_qnn, wall"].note == "no Olive here that could make it"
    assert (found["5 recipes, CPU"].ratio, found["5 recipes, CPU"].held) == (None, None)


def test_memory_and_disk_have_limits_of_their_own() -> None:
    found = named(matrix(27, {name: taken(60) for name in NAMES}))
    assert found["most memory of any stage"].held is False
    assert "Olive: 6,000 MB" in found["most memory of any stage"].note
    store = found["store after the recipes, contexts and engines apart"]
    assert (store.value, store.held) == (1200, True)
    assert store.note == "with them 1,500 MB; Olive's cache: 7,000 MB"


def test_similarity_is_what_is_lost_of_it() -> None:
    made = matrix(10, {name: taken(20) for name in NAMES})
    alike = {"qdq_amd": {"ours": (0.99, 0.9), "peer": (0.98, 0.8)}, "dml": {"ours": (1.0, 1.0)}}
    found = named(Matrix(ours=made.ours, peers=made.peers, disk=made.disk, alike=alike))
    assert found["qdq_amd, 1 - mean cosine with fp32"].value == pytest.approx(10)
    assert found["qdq_amd, 1 - least cosine with fp32"].ratio == pytest.approx(0.5)
    assert found["dml, 1 - mean cosine with fp32"].ratio is None


def test_stages_are_summed_over_recipes() -> None:
    assert list(stage_seconds([matrix(10)]).items()) == [("compile_qnn", 10.0), ("export", 5.0)]


@pytest.mark.parametrize("published", PUBLISHED, ids=NAMES)
def test_each_published_recipe_is_one_of_ours(published: Published) -> None:
    catalog = load_catalog(this_project())
    [(target, recipe)] = catalog.recipes_for(catalog.select(published.target), published.recipe)
    assert (target.name, recipe.target) == (published.target, published.target)


@pytest.mark.parametrize("published", PUBLISHED, ids=NAMES)
def test_the_peer_is_given_the_same_model_and_texts_and_nothing_that_measures(
    published: Published, tmp_path: Path
) -> None:
    config = json.loads(write(published, Path("/m"), Path("/t.jsonl"), tmp_path, tmp_path / "cache").read_text())
    assert config["input_model"]["model_path"] == "/m"
    assert "/t.jsonl" in json.dumps(config["data_configs"])
    assert not {"evaluator", "evaluators"} & config.keys()
    assert config["host"] in config["systems"]
    assert config["target"] in config["systems"]
    assert "'/m'" in (tmp_path / USER_SCRIPT).read_text()
    ast.parse((tmp_path / USER_SCRIPT).read_text())


def test_an_environment_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(command: list[str]) -> None:
        raise FileNotFoundError(2, "No such file or directory", command[0])

    monkeypatch.setattr(peer_sides, "timed", absent)
    with pytest.raises(RuntimeError, match=re.escape(f"the peer's {tmp_path} has no interpreter that starts")):
        peer_sides.environments([str(tmp_path)])


def test_the_peers_model_is_what_lies_in_its_folder(tmp_path: Path) -> None:
    assert entry_of(tmp_path / "nowhere") is None
    (tmp_path / "model_config.json").write_text("{}")
    assert entry_of(tmp_path) is None
    (tmp_path / "model.onnx").write_text("")
    (tmp_path / "model.xml").write_text("")
    assert entry_of(tmp_path) == tmp_path / "model.xml"


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert folder_bytes(tmp_path) == 5


def test_what_only_compilers_made_is_counted_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def artifact(stage: str, **files: Path | bytes) -> object:
        folder = tmp_path / stage
        folder.mkdir()
        for name, content in files.items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            else:
                (folder / name).hardlink_to(content)

        class Made:
            files = folder

            class manifest:  # noqa: N801
                pass

        Made.manifest.stage = stage  # type: ignore[attr-defined]
        return Made

    made = [artifact("export", weights=b"1" * 100)]
    made.append(artifact("compile_qnn", context=b"2" * 30, weights=tmp_path / "export" / "weights"))
    made.append(artifact("package", context=tmp_path / "compile_qnn" / "context"))
    monkeypatch.setattr(peer_sides, "artifacts", lambda _: made)
    assert peer_sides.on_disk(tmp_path) == Disk(130, 30)
