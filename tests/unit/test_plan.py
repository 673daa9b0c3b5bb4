"""Plans and keys: pure, stable, and sensitive to exactly what an outcome depends on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portwright.calls import RecipePlan, in_order
from portwright.chain import check_chain, executable
from portwright.devices import Access
from portwright.digests import DigestMemory, digest_json
from portwright.engines.kinds import EngineKind
from portwright.errors import RecipeError, UsageError
from portwright.explain import explain_text, first_difference
from portwright.plan import Planner
from portwright.project import this_project
from portwright.recipe import steps
from portwright.request import load_catalog
from portwright.shelf import device_of
from portwright.sources import parse_data, parse_model
from portwright.stages import StageLibrary
from portwright.target import Catalog
from portwright.toolchain import load_toolchains

PROJECT = this_project()
OPENVINO = "bert-base-portuguese-cased_context_ov_static"


@pytest.fixture
def catalog() -> Catalog:
    return load_catalog(PROJECT)


def plan_of(
    catalog: Catalog,
    path: Path,
    *,
    model: str = "synthetic:bert-base",
    engine: EngineKind = "venv",
    data: str | None = None,
) -> RecipePlan:
    memory = DigestMemory(Path("nowhere"))
    recipe_target = json.loads(path.read_text())["target"]
    [(target, recipe)] = catalog.recipes_for(catalog.select(recipe_target), str(path))
    local = parse_data(data, memory) if data else None
    return Planner(catalog, engine).plan(target, recipe, parse_model(model, "main", memory), local)


def edited(tmp_path: Path, name: str, change: Callable[[dict[str, Any]], None]) -> Path:
    [source] = PROJECT.targets.glob(f"*/recipes/{name}.json")
    recipe = json.loads(source.read_text())
    change(recipe)
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(recipe))
    return path


def keys(plan: RecipePlan) -> dict[str, str]:
    return {f"{call.stage}/{','.join(sorted(call.inputs))}": call.key for call in plan.calls}


def changed(before: RecipePlan, after: RecipePlan) -> set[str]:
    return {name.partition("/")[0] for name, key in keys(after).items() if keys(before).get(name) != key}


def test_dependencies_come_first_and_each_call_once(catalog: Catalog, tmp_path: Path) -> None:
    plan = plan_of(catalog, edited(tmp_path, OPENVINO, lambda _: None))
    seen: set[str] = set()
    for call in plan.calls:
        assert {given_input.call.key for given_input in call.inputs.values() if given_input.call} <= seen
        assert call.key not in seen
        seen.add(call.key)


def test_the_toolchain_is_the_first_that_holds_what_a_stage_needs(catalog: Catalog, tmp_path: Path) -> None:
    plan = plan_of(catalog, edited(tmp_path, OPENVINO, lambda _: None))
    names = {call.stage: call.toolchain.name for call in plan.calls}
    assert names["export"] == names["tokenize"] == names["synthesize"] == "exporter"
    assert names["quantize_nncf"] == names["benchmark"] == names["package"] == "openvino"
    assert names["evaluate"] == "ort"


def test_a_key_is_the_digest_of_what_explain_shows(catalog: Catalog) -> None:
    plans = [plan_of(catalog, path) for path in sorted(PROJECT.targets.glob("*/recipes/*.json"))]
    plans.append(on_npu(catalog, "driver 1"))
    assert "device" in plans[-1].embeddings.components
    for call in in_order(call for plan in plans for call in plan.calls):
        assert call.key == digest_json(dict(call.components)), call.stage


def test_all_recipes_of_the_targets_are_planned(catalog: Catalog, tmp_path: Path) -> None:
    targets = catalog.select("qnn,trt")
    found = [recipe.name for _, recipe in catalog.recipes_for(targets, "all")]
    assert found == [name for target in targets for name in target.recipe_paths]
    assert len(found) > len(targets)
    for name in ("cpu", "openvino"):
        shutil.copytree(PROJECT.targets / name, tmp_path / name)
    (tmp_path / "cpu" / "recipes" / "all.json").write_text("{}")
    with pytest.raises(RecipeError, match="means every recipe"):
        Catalog(tmp_path, load_toolchains(PROJECT.docker), StageLibrary(PROJECT.shared))


def test_recipes_share_their_export(catalog: Catalog) -> None:
    plans = [plan_of(catalog, path) for path in sorted(PROJECT.targets.glob("*/recipes/*.json"))]
    exports = [call for call in in_order(call for plan in plans for call in plan.calls) if call.stage == "export"]
    # One for each opset that recipes ask for, however many recipes there are.
    assert sorted(call.params["opset"] for call in exports) == [17, 20]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, set()),
        (lambda recipe: recipe.update(description="Other words."), set()),
        (lambda recipe: recipe["gates"]["similarity"].update(mean=0.5), set()),
        (lambda recipe: recipe["benchmark"].update(min_runs=31), {"benchmark"}),
        (
            lambda recipe: recipe["stages"][1].update(samples=200),
            {"quantize_nncf", "compile_openvino", "encapsulate", "package", "benchmark", "evaluate"},
        ),
    ],
)
def test_a_change_reruns_its_stage_and_what_follows(
    catalog: Catalog, tmp_path: Path, change: Callable[[dict[str, Any]], None], expected: set[str]
) -> None:
    before = plan_of(catalog, edited(tmp_path, OPENVINO, lambda recipe: recipe.setdefault("benchmark", {})))

    def both(recipe: dict[str, Any]) -> None:
        recipe.setdefault("benchmark", {})
        change(recipe)

    assert changed(before, plan_of(catalog, edited(tmp_path, OPENVINO, both))) == expected


def test_the_engines_kind_the_model_and_the_data_enter_the_keys(catalog: Catalog, tmp_path: Path) -> None:
    path = edited(tmp_path, OPENVINO, lambda _: None)
    plan = plan_of(catalog, path)
    everything = {call.stage for call in plan.calls}
    assert changed(plan, plan_of(catalog, path, engine="docker")) == everything
    assert "fetch_data" not in changed(plan, plan_of(catalog, path, model="synthetic:bert-base?seed=1"))
    assert changed(plan, plan_of(catalog, path, model="synthetic:bert-base?seed=1")) == everything - {"fetch_data"}
    data = tmp_path / "texts.jsonl"
    data.write_text('{"text": "a"}\n')
    one = plan_of(catalog, path, data=str(data))
    data.write_text('{"text": "b"}\n')
    assert "export" not in changed(one, plan_of(catalog, path, data=str(data)))
    assert "quantize_nncf" in changed(one, plan_of(catalog, path, data=str(data)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(
    order=st.permutations(
        ["name", "description", "target", "model", "data", "input", "evaluation", "accuracy", "gates", "stages"]
    )
)
def test_the_order_of_keys_in_a_file_means_nothing(catalog: Catalog, tmp_path: Path, order: list[str]) -> None:
    name = "bert-base-portuguese-cased_fp32_cpu"
    [source] = PROJECT.targets.glob(f"*/recipes/{name}.json")
    recipe = json.loads(source.read_text())
    path = tmp_path / "r.json"
    path.write_text(json.dumps({key: recipe[key] for key in order}))
    assert keys(plan_of(catalog, path)) == keys(plan_of(catalog, source))


def test_a_stage_that_needs_calibration_needs_data_for_it(catalog: Catalog, tmp_path: Path) -> None:
    path = edited(tmp_path, OPENVINO, lambda recipe: recipe.pop("calibration"))
    # Beside one of the same stages that has it, as among thousands.
    target = catalog.targets["openvino"]
    [(_, right)], [(_, wrong)] = (catalog.recipes_for([target], asked) for asked in (OPENVINO, str(path)))
    planner, model = Planner(catalog, "venv"), parse_model("synthetic:bert-base", "main", DigestMemory(Path("nowhere")))
    planner.plan(target, right, model, None)
    with pytest.raises(RecipeError, match=r"stages\[1\].*needs calibration data"):
        planner.plan(target, wrong, model, None)


def test_the_first_stage_must_make_a_model(catalog: Catalog, tmp_path: Path) -> None:
    path = edited(tmp_path, OPENVINO, lambda recipe: recipe["stages"].pop(0))
    with pytest.raises(RecipeError, match=r"stages\[0\](.|\n)*begin with `export`"):
        plan_of(catalog, path)


EXPORT, FIX, NNCF = {"stage": "export"}, {"stage": "fix_shape"}, {"stage": "quantize_nncf"}
ENCAPSULATE, QDQ, HALF = {"stage": "encapsulate"}, {"stage": "quantize_qdq"}, {"stage": "float16"}


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([EXPORT, ENCAPSULATE, NNCF], ["stages[1]", "takes a model in openvino format, and is given onnx"]),
        ([EXPORT, NNCF, ENCAPSULATE, FIX], ["stages[3]", "takes a model in onnx format, and is given openvino"]),
        ([EXPORT, NNCF, ENCAPSULATE, EXPORT], ["stages[3]", "would throw away"]),
        ([EXPORT, EXPORT, NNCF], ["stages[1]", "would throw away"]),
        ([EXPORT], ["none fixes the input shape", "fix_shape"]),
        ([EXPORT, FIX, HALF, QDQ], ["stages[3]", "'quantize_qdq' takes an fp32 model", "'float16'"]),
        ([EXPORT, FIX, QDQ, QDQ], ["stages[3]", "'quantize_qdq' takes an fp32 model"]),
        ([EXPORT, FIX, QDQ, HALF], ["stages[3]", "'float16' takes an fp32 model", "keep one of the two"]),
    ],
)
def test_stages_that_can_not_follow_each_other(
    catalog: Catalog, tmp_path: Path, stages: list[dict[str, Any]], words: list[str]
) -> None:
    path = edited(tmp_path, OPENVINO, lambda recipe: recipe.update(stages=stages))
    with pytest.raises(RecipeError) as caught:
        plan_of(catalog, path)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_the_last_model_must_be_one_the_runtime_loads(catalog: Catalog) -> None:
    [(_, recipe)] = catalog.recipes_for(catalog.select("openvino"), None)
    chain = [declaration for declaration, _ in steps(recipe, catalog.stage_library)]
    made = check_chain(recipe, chain)
    assert executable(recipe, made, ("openvino",)) == len(chain) - 1
    with pytest.raises(RecipeError, match="the last one makes openvino"):
        # The export is ONNX, but its shape is free.
        executable(recipe, made, ("onnx",))


def test_a_stage_no_toolchain_of_the_target_holds(catalog: Catalog, tmp_path: Path) -> None:
    path = edited(tmp_path, OPENVINO, lambda recipe: recipe.update(target="cpu"))
    with pytest.raises(RecipeError, match=r"stages\[1\].*no toolchain of the target can run stage 'quantize_nncf'"):
        plan_of(catalog, path)


@pytest.mark.parametrize(
    ("targets", "recipe", "words"),
    [
        ("opnvino", None, ["opnvino", "did you mean 'openvino'"]),
        ("", None, ["--target is empty"]),
        ("cpu", "", ["--recipe is empty"]),
        ("cpu", "nonsense", ["nonsense", "known"]),
        ("cpu", "nowhere/x.json", ["nowhere/x.json"]),
        ("cpu", OPENVINO, [OPENVINO, "--target=openvino"]),
    ],
)
def test_what_can_not_be_selected(catalog: Catalog, targets: str, recipe: str | None, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.recipes_for(catalog.select(targets), recipe)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_all_and_several(catalog: Catalog) -> None:
    assert [target.name for target in catalog.select("openvino,cpu,openvino")] == ["openvino", "cpu"]
    assert {target.name for target in catalog.select("all")} == {
        path.parent.name for path in PROJECT.targets.glob("*/*.toml")
    }


def test_a_target_is_added_by_adding_a_folder(tmp_path: Path) -> None:
    targets = tmp_path / "targets"
    shutil.copytree(PROJECT.targets, targets)
    shutil.copytree(targets / "cpu", targets / "other")
    for path in (targets / "other" / "recipes").glob("*.json"):
        path.with_name(f"other-{path.name}").write_text(
            path.read_text().replace('"name": "', '"name": "other-').replace('"target": "cpu"', '"target": "other"')
        )
        path.unlink()
    file = targets / "other" / "target.toml"
    file.write_text(file.read_text().replace('"cpu"', '"other"').replace('recipe = "', 'recipe = "other-'))
    catalog = Catalog(targets, load_toolchains(PROJECT.docker), StageLibrary(PROJECT.shared))
    [(target, recipe)] = catalog.recipes_for(catalog.select("other"), None)
    assert (target.name, recipe.name) == ("other", "other-bert-base-portuguese-cased_qdq_cpu")


def on_npu(catalog: Catalog, driver: str | None) -> RecipePlan:
    """The plan for the NPU with a driver; None where nobody looked."""
    access = Access(name="npu", title="NPU", system="linux", identity=(driver,)) if driver else None
    memory = DigestMemory(Path("nowhere"))
    [(target, recipe)] = catalog.recipes_for(catalog.select("openvino"), OPENVINO)
    model = parse_model("synthetic:bert-base", "main", memory)
    return Planner(catalog, "venv").plan(target, recipe, model, None, "npu", access)


def test_what_a_device_answered_is_another_ones_with_another_driver(catalog: Catalog) -> None:
    old, new, unseen = (on_npu(catalog, driver) for driver in ("driver 1", "driver 2", None))
    # fp32's embeddings are the processor's, and stay.
    assert [call.stage for call in new.calls if call.key not in keys_of(old)] == ["embed", "evaluate"]
    assert new.embeddings.key != old.embeddings.key != unseen.embeddings.key
    assert new.benchmark.key == old.benchmark.key
    assert len({device_of(plan.benchmark) for plan in (old, new, unseen)}) == 3
    assert device_of(unseen.benchmark) == "openvino-NPU"
    assert "driver" in first_difference(old.embeddings.components, new.embeddings.components)
    assert "was not looked at" in first_difference(old.embeddings.components, unseen.embeddings.components)


def keys_of(plan: RecipePlan) -> set[str]:
    return {call.key for call in plan.calls}


def test_a_recipes_name_is_taken_once(tmp_path: Path) -> None:
    targets = tmp_path / "targets"
    shutil.copytree(PROJECT.targets, targets)
    shutil.copy(targets / "openvino" / "recipes" / f"{OPENVINO}.json", targets / "cpu" / "recipes")
    with pytest.raises(RecipeError, match="is taken"):
        Catalog(targets, load_toolchains(PROJECT.docker), StageLibrary(PROJECT.shared))


def test_explain_names_the_first_difference(catalog: Catalog, tmp_path: Path) -> None:
    before = plan_of(catalog, edited(tmp_path, OPENVINO, lambda _: None))
    manifest = {"components": {call.key: dict(call.components) for call in before.calls}}
    after = plan_of(catalog, edited(tmp_path, OPENVINO, lambda recipe: recipe["stages"][1].update(samples=200)))
    text = explain_text(after, manifest)
    assert "quantize_nncf: parameter samples: was 300, is 200" in text
    assert "encapsulate: its input changed: model" in text
    assert "export: the same key" in text
    assert "never ran" in explain_text(after, None)


def test_explain_orders_what_differs() -> None:
    now = {"scheme": 1, "stage": "s", "source": "a", "params": {"x": 1}, "inputs": {"model": "k"}, "toolchain": "t"}
    assert "was not part" in first_difference(None, now)
    assert "source" in first_difference({**now, "source": "b", "toolchain": "u"}, now)
    assert "toolchain" in first_difference({**now, "toolchain": "u", "inputs": {}}, now)
