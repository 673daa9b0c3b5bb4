"""Gates that could never be judged are refused."""

from __future__ import annotations

import pytest

from portwright.errors import RecipeError
from portwright.project import Project, this_project
from portwright.recipe import RatioGate
from portwright.request import load_catalog
from portwright.target import Catalog
from portwright.target_rules import check_gates


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(Project(this_project().root))


@pytest.mark.parametrize(("target", "on"), [("cpu", "cpu"), ("openvino", "cpu"), ("openvino", "npu")])
def test_latency_may_be_gated_on_the_cpu_and_on_the_targets_devices(catalog: Catalog, target: str, on: str) -> None:
    [(found, recipe)] = catalog.recipes_for([catalog.targets[target]], None)
    gates = recipe.gates.model_copy(update={"latency_ratio": RatioGate(max=0.5, on=on)})
    check_gates(recipe.model_copy(update={"gates": gates}), found.file)


@pytest.mark.parametrize("on", ["CPU", "toaster", "NPU"])
def test_a_latency_gate_on_no_device_of_the_target_is_refused(catalog: Catalog, on: str) -> None:
    [(found, recipe)] = catalog.recipes_for([catalog.targets["openvino"]], None)
    gates = recipe.gates.model_copy(update={"latency_ratio": RatioGate(max=0.5, on=on)})
    with pytest.raises(RecipeError, match=f"latency_ratio.on: target 'openvino' has no device '{on}'") as caught:
        check_gates(recipe.model_copy(update={"gates": gates}), found.file)
    assert "npu" in caught.value.hint or "cpu" in caught.value.hint
