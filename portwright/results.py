"""`result.json`: what a run found, in the form other programs read. Its JSON Schema is generated from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from portwright.checked import StrictModel
from portwright.likeness import Protocol
from portwright.published import PublishedFigures

ExecutedOn = Literal["device", "emulator", "cpu"]
Milliseconds = Annotated[float, Field(ge=0.0)]


class ModelRecord(StrictModel):
    """The model a result is of."""

    source: Annotated[str, Field(description="hub id with revision, absolute folder, or synthetic:NAME?seed=N")]
    digest: Annotated[str, Field(description="SHA-256 over the names and contents of its files")]
    synthetic: Annotated[bool, Field(description="random weights: accuracy figures say nothing about a trained model")]


class StageRecord(StrictModel):
    """One stage call of the plan."""

    name: str
    key: str
    toolchain: str
    cached: Annotated[bool, Field(description="an earlier run's artifact or measurement served")]
    seconds: Annotated[float, Field(description="of the run that made it")]
    peak_memory_bytes: int


class LatencyMs(StrictModel):
    """Latency of one inference of a whole batch, milliseconds; min ≤ p50 ≤ p90 ≤ p99 ≤ max."""

    min: Milliseconds
    mean: Milliseconds
    p50: Milliseconds
    p90: Milliseconds
    p99: Milliseconds
    max: Milliseconds
    std: Milliseconds


class Throughput(StrictModel):
    """One inference after the other, no overlap."""

    inferences_per_s: float
    tokens_per_s: Annotated[float, Field(description="padded positions: inferences_per_s * batch * sequence length")]
    tokens_counted: Literal["padded positions"] = "padded positions"
    real_tokens_per_s: Annotated[float, Field(description="without the padding of the texts measured")]


class AllThreads(StrictModel):
    """The same measurement with every processor that the stage may use."""

    threads: int
    latency_ms: LatencyMs
    baseline_latency_ms: LatencyMs
    latency_ratio: float


class Similarity(StrictModel):
    """Cosine of mean-pooled embeddings (padding masked) against the fp32 reference on the same texts."""

    mean: Annotated[float | None, Field(description="null where an embedding is not finite, or nothing was compared")]
    min: float | None
    samples: int
    unrelated_mean: Annotated[float | None, Field(description="mean cosine of embeddings of different texts, fp32")] = (
        None
    )
    centred_mean: Annotated[float | None, Field(description="mean cosine after fp32's mean embedding is taken off")] = (
        None
    )
    nearest_agreement: Annotated[
        float | None, Field(description="share of texts whose nearest other text is the same in both models")
    ] = None


class Accuracy(StrictModel):
    """Classification accuracy of a probe on frozen embeddings: trained on fp32 embeddings, judged on both models'."""

    task: Annotated[str, Field(description="the data set and what the probe tells apart")]
    fp32: Annotated[float, Field(ge=0, le=1)]
    optimized: Annotated[float, Field(ge=0, le=1)]
    drop: Annotated[float, Field(description="fp32 minus optimized, in accuracy, on the same samples")]
    drop_interval: Annotated[tuple[float, float], Field(description="95 % paired bootstrap interval of the drop")]
    mcnemar_p: Annotated[float, Field(description="exact McNemar test of the paired answers")]
    only_fp32: Annotated[int, Field(description="pairs that fp32 alone gets right")]
    only_optimized: Annotated[int, Field(description="pairs that the optimized model alone gets right")]
    train_samples: int
    samples: int
    chance: Annotated[float, Field(description="accuracy of always answering the commonest label")]


class FirstInference(StrictModel):
    """Loading and the first inference, each in a fresh process."""

    cold_load_s: Annotated[float | None, Field(description="the model's files dropped from the page cache before")]
    cold_ms: float | None
    warm_load_s: float
    warm_ms: float


class Sustained(StrictModel):
    """One inference after the other for a while: whether heat or clocks slow it down."""

    seconds: float
    first_ms: Annotated[float, Field(description="median of the first tenth")]
    last_ms: Annotated[float, Field(description="median of the last tenth")]
    inferences_per_s: float


class SettingTried(StrictModel):
    """One of a runtime's session settings against the default ones, in turn with them on the same model."""

    name: str
    options: Annotated[dict[str, str | int], Field(description="what the runtime is told beyond its default settings")]
    ratio: Annotated[float | None, Field(description="of its time to the default's; null where it was not timed")]
    interval: Annotated[tuple[float, float] | None, Field(description="95 % bootstrap interval")]
    runs: int
    refused: Annotated[str, Field(description="why it is not valid; empty where it is")] = ""


class SessionSettings(StrictModel):
    """The fastest valid session settings that were found for one number of threads, on this machine."""

    threads: int
    chosen: Annotated[str, Field(description="`default`, or the name of one that was tried")]
    options: Annotated[dict[str, str | int], Field(description="what that adds to the default settings")]
    settings: Annotated[dict[str, Any], Field(description="all that the runtime was told when it was measured")]
    default: Annotated[dict[str, Any], Field(description="all that it is told by default")]
    tried: Annotated[tuple[SettingTried, ...], Field(description="empty where nothing is offered, or asked for")]
    again: Annotated[
        SettingTried | None, Field(description="the fastest of them in a fresh process: chosen if it wins there too")
    ]


class LayerError(StrictModel):
    """How far one tensor of the optimized model is from fp32."""

    tensor: str
    op: str
    error: Annotated[float, Field(description="relative: root mean square of the difference over that of fp32")]
    added: Annotated[float, Field(description="what this layer adds to the error of what it is given")]


class Placed(StrictModel):
    """Nodes of a graph in one place."""

    where: Annotated[str, Field(description="an execution provider, a device or a compiler")]
    nodes: int
    ops: Annotated[dict[str, int], Field(default_factory=dict, description="nodes by operator, where known")]
    compute: Annotated[float | None, Field(description="share of multiplications and additions, where known")] = None


class Placement(StrictModel):
    """Where the executed graph ran, and where a compiler put the one that ships."""

    runtime: str
    nodes: Annotated[tuple[Placed, ...], Field(description="of the model that was executed")]
    compiled: Annotated[
        tuple[Placed, ...], Field(description="of the compiled model, by its compiler; empty where none placed it")
    ] = ()
    compiled_by: str = ""


class Emulation(StrictModel):
    """The compiled model in the vendor's emulator, against the model it was compiled from. Never a device's figure."""

    runtime: str
    executed_on: Literal["emulator"] = "emulator"
    variant: Annotated[str, Field(description="the file that was run")] = ""
    similarity: Similarity
    placement: tuple[Placed, ...] = ()
    inferred: Annotated[str, Field(description="what the result says of the compiled model without having run it")] = (
        "similarity and accuracy: judged on the model it was compiled from"
    )


class LargestTensor(StrictModel):
    """The largest magnitude that was seen of a tensor, in fp32, on a few texts; null where it is not finite."""

    tensor: str
    largest: float | None


class HalfRange(StrictModel):
    """Whether fp16 can hold what the model computes. A CPU computes fp16 in fp32, so that no result would tell."""

    limit: Annotated[float, Field(description="the largest number of fp16")] = 65504.0
    tensors: Annotated[int, Field(description="tensors and weights that were looked at")]
    above: Annotated[int, Field(description="of them beyond the limit: kept in fp32")]
    largest: tuple[LargestTensor, ...]
    texts: int


class Checked(StrictModel):
    """What a stage checked of its own output, where nothing here can execute it."""

    stage: str
    how: str


class NotBuilt(StrictModel):
    """Something of the recipe that can't be made on this machine."""

    what: str
    why: str
    hint: str = ""


class Executed(StrictModel):
    """Which of the recipe's models was executed."""

    stage: Annotated[str, Field(description="the stage that made it")]
    format: str
    deployable: Annotated[bool, Field(description="it is the model that ships, not one it was compiled from")]
    asked: Annotated[str, Field(description="the device of --device; empty where something stood in for one")] = ""


class DataRecord(StrictModel):
    """Which texts served. `disjoint`: no text that was evaluated had served calibration."""

    source: str
    calibration_samples: int
    evaluation_samples: int
    disjoint: bool
    note: str = ""


class GateRecord(StrictModel):
    """One condition and what was found."""

    name: str
    passed: Annotated[bool | None, Field(description="null: nothing on this machine can tell")]
    limit: float
    found: float | None
    reason: str


class RunResult(StrictModel):
    """The last run of one recipe on one model."""

    version: Literal[1] = 1
    recipe: str
    recipe_digest: str
    target: str
    engine: Annotated[Literal["docker", "venv", "bundle"], Field(description="bundle: on a device, without an engine")]
    status: Literal["passed", "failed"]
    model: ModelRecord
    data: DataRecord
    executed: Executed
    executed_on: Annotated[ExecutedOn, Field(description="cpu also for OpenVINO on a CPU and for every stand-in")]
    device: Annotated[str, Field(description="what executed, as the machine calls it")]
    measured: Annotated[str, Field(description="when latency was measured, ISO 8601, UTC")]
    stages: tuple[StageRecord, ...]
    latency_ms: Annotated[
        LatencyMs | None, Field(description="one pinned thread on a CPU; null where time means nothing")
    ]
    throughput: Throughput | None
    baseline_latency_ms: Annotated[
        LatencyMs | None, Field(description="ONNX Runtime fp32 of the same model, interleaved")
    ]
    latency_ratio: Annotated[float | None, Field(description="median of paired ratios, deployable over baseline")]
    latency_ratio_interval: Annotated[tuple[float, float] | None, Field(description="95 % bootstrap interval")] = None
    all_threads: AllThreads | None = None
    verdict: Literal["valid", "unstable", "invalid"] | None = None
    verdict_reason: str = ""
    protocol: Annotated[Protocol | None, Field(description="what a run must share to be compared with this one")] = None
    first_inference: FirstInference | None = None
    sustained: Sustained | None = None
    similarity: Similarity
    accuracy: Accuracy | None = None
    layer_errors: Annotated[
        tuple[LayerError, ...], Field(description="where a failed model loses most, worst first")
    ] = ()
    published: PublishedFigures | None = None
    placement: Placement
    emulation: Emulation | None = None
    variants: Annotated[
        tuple[dict[str, Any], ...], Field(description="compiled files with the chips and releases they are good for")
    ] = ()
    half_range: HalfRange | None = None
    checked: tuple[Checked, ...] = ()
    not_built: tuple[NotBuilt, ...] = ()
    gates: tuple[GateRecord, ...]
    size_bytes: Annotated[int, Field(description="of everything under deploy/, what a run notes there left out")]
    settings: Annotated[dict[str, Any], Field(default_factory=dict, description="what the runtime was told")]
    session_settings: Annotated[
        dict[str, SessionSettings],
        Field(default_factory=dict, description="by pass: one_thread (on a device the only one), all_threads"),
    ]
    environment: Annotated[dict[str, Any], Field(default_factory=dict)]
