"""--model and --data: what they mean, and what is wrong with them in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from portwright.digests import DigestMemory
from portwright.errors import DataError, ModelError, UsageError
from portwright.maker import plain_folder
from portwright.plan import Planner
from portwright.project import this_project
from portwright.request import load_catalog
from portwright.sources import parse_data, parse_model
from portwright.view import Views

MEMORY = DigestMemory(Path("nowhere"))


def model_folder(path: Path, weights: str = "weights") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (path / "model.safetensors").write_text(weights)
    return path


def test_a_hub_id_with_and_without_a_revision() -> None:
    plain = parse_model("neuralmind/bert-base", "main", MEMORY)
    pinned = parse_model("neuralmind/bert-base@refs/pr/1", "main", MEMORY)
    assert (plain.text, plain.slug, plain.stage) == (
        "neuralmind/bert-base@main",
        "neuralmind--bert-base",
        "fetch_model",
    )
    assert pinned.params == {"id": "neuralmind/bert-base", "revision": "refs/pr/1"}
    assert plain.identity != pinned.identity


def test_a_synthetic_model() -> None:
    source = parse_model("synthetic:bert-base?seed=3", "main", MEMORY)
    assert source.synthetic
    assert (source.stage, source.params) == ("synthesize", {"architecture": "bert-base", "seed": 3})


def test_a_local_folder_is_known_by_what_stages_read(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "Meu Modelo")
    first = parse_model(str(folder), "main", MEMORY)
    assert first.slug == "Meu-Modelo"
    (folder / "pytorch_model.bin").write_text("not read")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("not read")
    assert parse_model(str(folder), "main", MEMORY).identity == first.identity
    (folder / "tokenizer.json").write_text("{}")
    assert parse_model(str(folder), "main", MEMORY).identity != first.identity


def test_linked_folders_count_and_loops_end(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_text("{}")
    before = parse_model(str(folder), "main", MEMORY)
    (folder / "1_Pooling").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    after = parse_model(str(folder), "main", MEMORY)
    assert after.identity != before.identity
    assert after.local is not None
    plain = plain_folder(after.local, tmp_path / "work")
    assert sorted(path.relative_to(plain).as_posix() for path in plain.rglob("*") if path.is_file()) == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
    ]
    assert not any(path.is_symlink() for path in plain.rglob("*"))


def test_a_home_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="~nosuchuser"):
        parse_model("~nosuchuser/model", "main", MEMORY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["--model is empty"]),
        ("./nowhere", ["no model folder", "nowhere"]),
        ("a/b/c", ["no model 'a/b/c'", "--model="]),
        ("org/name@", ["no model 'org/name@'"]),
        ("synthetic:bert-base?sed=1", ["sed"]),
        ("synthetic:bert-base?seed=x", ["'x'"]),
    ],
)
def test_models_that_can_not_be(text: str, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        parse_model(text, "main", MEMORY)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"no config.json(.|\n)*empty"):
        parse_model(str(folder), "main", MEMORY)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"can't read .*config.json"):
        parse_model(str(folder), "main", MEMORY)
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "mine.Model"}}')
    with pytest.raises(ModelError, match=r"asks for code of its own"):
        parse_model(str(folder), "main", MEMORY)
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_text("")
    with pytest.raises(ModelError, match=r"no \*.safetensors(.|\n)*pytorch_model.bin"):
        parse_model(str(folder), "main", MEMORY)
    with pytest.raises(ModelError, match="is not a folder"):
        parse_model(str(folder / "config.json"), "main", MEMORY)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.jsonl", None, "no data file"),
        ("empty.jsonl", "", "is empty"),
        ("texts.csv", "a", "unknown kind of file"),
    ],
)
def test_data_that_can_not_be(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        parse_data(str(path), MEMORY)
    assert name in str(caught.value)


def test_data_that_is_a_folder_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a file"):
        parse_data(str(tmp_path), MEMORY)
    with pytest.raises(DataError, match="is empty"):
        parse_data("", MEMORY)


def test_two_models_of_one_name_have_two_folders(tmp_path: Path) -> None:
    views = Views(tmp_path / "artifacts")
    one = parse_model(str(model_folder(tmp_path / "a" / "bert", "1")), "main", MEMORY)
    two = parse_model(str(model_folder(tmp_path / "b" / "bert", "2")), "main", MEMORY)
    first = views.model_folder(one)
    first.mkdir(parents=True)
    (first / ".model.json").write_text(json.dumps({"source": one.text, "identity": one.identity}))
    assert first.name == "bert"
    assert views.model_folder(one) == first
    assert views.model_folder(two).name == f"bert-{two.identity[:8]}"
    (tmp_path / "a" / "bert" / "model.safetensors").write_text("trained on")
    assert views.model_folder(parse_model(str(tmp_path / "a" / "bert"), "main", MEMORY)) == first


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "bert", "max_position_embeddings": 100}, 100),
        ({"model_type": "roberta", "max_position_embeddings": 102, "pad_token_id": 1}, 100),
        ({"model_type": "bert"}, None),
    ],
)
def test_a_recipe_that_asks_for_longer_texts_than_the_model_takes_is_not_planned(
    tmp_path: Path, config: dict[str, object], most: int | None
) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(config))
    model = parse_model(str(folder), "main", DigestMemory(tmp_path / "digests.json"))
    assert model.longest_text == most
    catalog = load_catalog(this_project())
    target = catalog.targets["cpu"]
    [(_, recipe)] = catalog.recipes_for([target], None)
    planner = Planner(catalog, "venv")
    if most is None:
        assert planner.plan(target, recipe, model, None).calls
        return
    with pytest.raises(ModelError, match=r"takes at most 100 tokens, and recipe .* asks for 128"):
        planner.plan(target, recipe, model, None)
    fits = recipe.model_copy(update={"input": recipe.input.model_copy(update={"sequence_length": most})})
    assert planner.plan(target, fits, model, None).calls
