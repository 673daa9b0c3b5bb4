"""What a stage call takes of the machine: what such a call took before, else what its stage declares."""

from __future__ import annotations

from portwright.calls import CallInput, StageCall
from portwright.peaks import Peaks, Size
from portwright.scheduler import Need
from portwright.shelf import Done
from portwright.sources import LocalSource, model_files
from portwright.stages import FILLED_BY_SHAPE, StageLibrary

MODELS = ("source", "model", "executable", "reference")
"""The roles that hold a model: memory grows with the largest of them."""
TOKEN_BYTES = 160_000
"""What a model's results take for each token of a batch until a run has seen it: measured on BERT-base at [16, 512]."""
PREPARING = Need(memory=512 << 20, holds=frozenset({"preparing toolchains"}))
"""What making an image or a virtual environment takes; one at a time, since they share network and package cache."""


class Needs:
    """What calls need, when all that they are made of is there."""

    def __init__(self, library: StageLibrary, peaks: Peaks, cores: int) -> None:
        self._library = library
        self._peaks = peaks
        self._cores = cores

    def of(self, call: StageCall, done: dict[str, Done]) -> Need:
        """Cores, memory and devices of a call; `done` holds the calls that its inputs come from."""
        stage = self._library.get(call.stage).stage
        size = size_of(call, done)
        declared = int(stage.memory_factor * size.model_bytes) + (stage.memory_mb << 20) + TOKEN_BYTES * size.tokens
        known = self._peaks.of(call.stage, size)
        return Need(
            cores=stage.threads or self._cores,
            memory=declared if known is None else known,
            alone=stage.exclusive,
            holds=frozenset({f"device {call.device}"} if call.device else ()),
        )


def size_of(call: StageCall, done: dict[str, Done]) -> Size:
    """What a call's memory grows with; `done` holds the calls that its inputs come from."""
    models = [given for role, given in call.inputs.items() if role in MODELS]
    size = max((_bytes(given, done) for given in models), default=0)
    return Size(model_bytes=size, tokens=_tokens(call) if models else 0)


def _tokens(call: StageCall) -> int:
    """In a batch of the shape that was fixed for a call or for what it is made of; 0 where none was."""
    batch, length = (call.params.get(name, 0) for name in FILLED_BY_SHAPE)
    made_of = (given.call for given in call.inputs.values() if given.call is not None)
    return max(int(batch) * int(length), *map(_tokens, made_of), 0)


def _bytes(given: CallInput, done: dict[str, Done]) -> int:
    if given.call is not None:
        artifact = done[given.call.key].artifact
        return sum(entry.size for entry in artifact.manifest.files.values()) if artifact else 0
    assert given.local is not None
    return _local_bytes(given.local)


def _local_bytes(local: LocalSource) -> int:
    try:
        files = [local.path] if local.path.is_file() else model_files(local.path).values()
        return sum(path.stat().st_size for path in files)
    except OSError:  # it was taken away meanwhile: its stage will say so
        return 0
