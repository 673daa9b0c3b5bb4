"""A recipe: what to do to one model for one target, read from JSON and checked whole before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, JsonValue, PrivateAttr, ValidationError, model_validator

from portwright.checked import StrictModel, invalid, read_json, read_text
from portwright.digests import digest_text
from portwright.errors import RecipeError
from portwright.naming import suggestion
from portwright.stages import Declaration, StageLibrary

WHAT = "recipe"
LABEL = "label"
"""The field of a pair's class, an integer."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Samples = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Cosine = Annotated[float, Field(ge=-1.0, le=1.0)]


class ModelSpec(StrictModel):
    """The model a recipe was written for; `--model` takes its place."""

    source: Annotated[str, Field(min_length=1, description="hub id, folder, or synthetic:NAME?seed=N")]
    revision: Annotated[str, Field(min_length=1, description="branch, tag or, best, commit of a hub model")] = "main"


class DataSpec(StrictModel):
    """A split of a hub dataset; `--data` takes its place. Rows are read in order, distinct texts only."""

    dataset: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", description="hub id of a dataset")]
    revision: Annotated[str, Field(min_length=1)] = "main"
    subset: str | None = None
    split: Annotated[str, Field(min_length=1)]
    fields: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    samples: Annotated[Samples, Field(description="rows to read at the most")]


class SampleSpec(StrictModel):
    """Which texts serve: a named data set, one of its fields, and how many."""

    data: Annotated[str, Field(description="a name under `data`")]
    field: str
    samples: Samples


class AccuracySpec(StrictModel):
    """Labelled pairs for a probe: trained on fp32 embeddings, judged on those of both models."""

    data: Annotated[str, Field(description="a name under `data`, whose fields include `label`")]
    premise: str = "premise"
    hypothesis: str = "hypothesis"
    train_samples: Annotated[Samples, Field(description="pairs that train the probe")]
    samples: Annotated[Samples, Field(description="pairs that judge")]


class InputShape(StrictModel):
    """The fixed shape that the deployable takes, [batch_size, sequence_length] in tokens."""

    batch_size: Annotated[int, Field(ge=1, le=256)] = 1
    sequence_length: Annotated[int, Field(ge=2, le=8192)] = 128


class SimilarityGate(StrictModel):
    """Cosine of mean-pooled embeddings against fp32 on the same texts: the least mean, and the least of any text."""

    mean: Cosine
    min: Cosine = -1.0


class PlacementGate(StrictModel):
    """Where the graph must run, and how much of it. What runs on a CPU unasked is a fallback, and fails the run."""

    on: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="execution providers, devices or compilers that must have the graph"),
    ]
    min_share: Annotated[
        Share, Field(description="least share that must be there: of the arithmetic where it is known, else of nodes")
    ] = 1.0
    stand_in: Annotated[
        tuple[str, ...], Field(description="what may execute in the device's place where no device is; labelled so")
    ] = ()
    may_stay_on_cpu: Annotated[
        tuple[str, ...], Field(description="operators that a provider may leave on the CPU; any other one fails")
    ] = ()


class RatioGate(StrictModel):
    """Median latency over ONNX Runtime fp32 of the same model: the most allowed, on the device it is meant for."""

    max: Annotated[float, Field(gt=0.0)]
    on: Annotated[str, Field(description="`cpu` (one pinned thread), or a device of the target; judged only there")] = (
        "cpu"
    )


class AccuracyGate(StrictModel):
    """Accuracy of the probe, fp32 less optimized, on the same pairs: the most allowed, with 95 % confidence."""

    max_drop: Annotated[float, Field(gt=0.0, le=1.0)]


class SizeGate(StrictModel):
    """Size of everything under deploy/, in megabytes (10^6): the most allowed."""

    max_mb: Annotated[float, Field(gt=0.0)]


class Gates(StrictModel):
    """What a run must meet. A failed gate fails the run."""

    similarity: SimilarityGate
    placement: PlacementGate
    emulation: Annotated[
        SimilarityGate | None,
        Field(description="the compiled model in the vendor's emulator against the model it was compiled from"),
    ] = None
    accuracy: AccuracyGate | None = None
    latency_ratio: RatioGate | None = None
    size: SizeGate | None = None


class Recipe(StrictModel):
    """One model, one target, the stages between them, and what the result must meet."""

    json_schema: Annotated[str, Field(alias="$schema")] = ""
    name: Name
    description: Annotated[str, Field(min_length=1)]
    target: Annotated[str, Field(description="a folder of targets/")]
    model: ModelSpec
    data: dict[str, DataSpec]
    input: InputShape = InputShape()
    calibration: SampleSpec | None = None
    evaluation: SampleSpec
    accuracy: AccuracySpec | None = None
    stages: Annotated[tuple[dict[str, JsonValue], ...], Field(min_length=1)]
    benchmark: Annotated[
        dict[str, JsonValue], Field(default_factory=dict, description="parameters of the benchmark stage")
    ]
    gates: Gates
    _path: Path = PrivateAttr(default=Path())
    _digest: str = PrivateAttr(default="")
    _steps: tuple[object, StageLibrary, list[Step]] | None = PrivateAttr(default=None)
    """What `steps` found, and for which stages and library."""

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._path

    @property
    def digest(self) -> str:
        """SHA-256 of the text that was read."""
        return self._digest

    @model_validator(mode="after")
    def _names_its_data(self) -> Recipe:
        for role, spec in (("calibration", self.calibration), ("evaluation", self.evaluation)):
            if spec is None:
                continue
            if spec.data not in self.data:
                raise ValueError(f"{role}.data names {spec.data!r}; {suggestion(spec.data, self.data)}")
            if spec.field not in self.data[spec.data].fields:
                fields = suggestion(spec.field, self.data[spec.data].fields)
                raise ValueError(f"{role}.field {spec.field!r} is no field of data {spec.data!r}; {fields}")
        return self

    @model_validator(mode="after")
    def _names_its_pairs(self) -> Recipe:
        spec = self.accuracy
        if spec is None:
            if self.gates.accuracy:
                raise ValueError("gates.accuracy has nothing to judge; add `accuracy`, or leave the gate out")
            return self
        if spec.data not in self.data:
            raise ValueError(f"accuracy.data names {spec.data!r}; {suggestion(spec.data, self.data)}")
        for field in (spec.premise, spec.hypothesis, LABEL):
            if field not in self.data[spec.data].fields:
                fields = suggestion(field, self.data[spec.data].fields)
                raise ValueError(f"accuracy: {field!r} is no field of data {spec.data!r}; {fields}")
        return self


Step = tuple[Declaration, dict[str, Any]]


def load_recipe(path: Path, library: StageLibrary) -> Recipe:
    """Read and check a recipe, its stages' parameters included; RecipeError says what is wrong and where."""
    text = read_text(path, WHAT)
    recipe = read_json(Recipe, text, path, WHAT)
    recipe._path, recipe._digest = path, digest_text(text)  # noqa: SLF001 - set once, by the only reader
    for index, (declaration, given) in enumerate(steps(recipe, library)):
        parameters(declaration.name, given, recipe, library, ("stages", index))
    parameters("benchmark", recipe.benchmark, recipe, library, ("benchmark",))
    return recipe


def steps(recipe: Recipe, library: StageLibrary) -> list[Step]:
    """The recipe's stages, each known and one that a recipe may list, with the parameters it gives."""
    known = recipe._steps  # noqa: SLF001 - this function's own memory
    if known and known[0] is recipe.stages and known[1] is library:
        return known[2]
    found: list[Step] = []
    for index, entry in enumerate(recipe.stages):
        name = entry.get("stage")
        declaration = library.for_recipes(name)
        if declaration is None:
            raise RecipeError(
                f"recipe {recipe.path}: stages[{index}].stage: unknown stage {name!r}"
                if "stage" in entry
                else f"recipe {recipe.path}: stages[{index}].stage: is missing",
                hint=suggestion(str(name), library.recipe_stages),
            )
        found.append((declaration, {key: value for key, value in entry.items() if key != "stage"}))
    recipe._steps = recipe.stages, library, found  # noqa: SLF001
    return found


def parameters(
    stage: str, given: Mapping[str, Any], recipe: Recipe, library: StageLibrary, place: tuple[int | str, ...]
) -> None:
    """Check the parameters a recipe gives to a stage; RecipeError for one that doesn't fit."""
    declaration = library.get(stage)
    stand_in = {"batch_size": 1, "sequence_length": 128, "runtime": "onnxruntime", "device": "CPU"}
    for name in declaration.filled:
        if name in given:
            raise RecipeError(
                f"recipe {recipe.path}: {'.'.join(map(str, place))}.{name}: is not for a stage to set",
                hint="the recipe's `input` gives the shape, and the target gives the runtime",
            )
    try:
        declaration.fill({**given, **{name: stand_in[name] for name in declaration.filled}})
    except ValidationError as error:
        raise invalid(error, recipe.path, WHAT, declaration.parameter_names, place) from None
