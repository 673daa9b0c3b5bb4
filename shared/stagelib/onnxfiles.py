"""ONNX files: read, written, and described.

Between stages every big weight is a file of its own, named by its digest, beside a small `model.onnx`. A weight that a
stage leaves alone is then the same file before and after, which the host keeps once. What ships is one file.

Such files are hard links, and onnx.load takes a hard-linked weight for an attack by whoever made the model. So they are
read here, where it is known who made them; what reads a model through onnx.load is given `one_file`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from stagelib.api import Call, StageError
from stagelib.modelinfo import ModelInfo, Tensor

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

ENTRY = "model.onnx"
WEIGHTS = "model.onnx.data"
PIECES = "weights"
PIECE_BYTES = 256 << 10
"""Weights from this size on are files of their own."""
LOCATION = "location"
BLOCK = 1 << 20
"""Numbers that are converted at once."""
# protobuf refuses a message of 2 GiB; the graph itself needs a little of it.
ONE_FILE_BYTES = (2 << 30) - (64 << 20)


def load(folder: Path, *, weights: bool = True) -> onnx.ModelProto:
    """The ONNX model of an artifact; StageError where it holds another format or can't be read.

    Without `weights` those in files of their own are left there, and `save` passes them on: nothing big is read.
    """
    info = ModelInfo.read(folder)
    if info.format != "onnx":
        raise StageError(
            f"this stage takes an ONNX model, and the one before it made {info.format}", hint="reorder the stages"
        )
    return read(folder / info.entry, weights=weights)


def read(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """An ONNX file of ours; StageError where it can't be read."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise StageError(f"{path.name} is not an ONNX model: {error}", kind="model") from error
    for tensor in model.graph.initializer if weights else ():
        if is_apart(tensor):
            take_in(tensor, path.parent)
    return model


def take_in(tensor: onnx.TensorProto, folder: Path) -> None:
    """Read a weight that was left in its file into the graph."""
    tensor.raw_data = _piece(tensor, folder).read_bytes()
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def is_apart(tensor: onnx.TensorProto) -> bool:
    """Whether a weight was left in its file."""
    return bool(tensor.data_location)


def array(tensor: onnx.TensorProto, *folders: Path) -> NDArray[Any]:
    """A weight's numbers in its shape; where it is in a file of its own, they are mapped and not read, from the first
    of the folders that has it."""
    import numpy as np
    import onnx

    if not is_apart(tensor):
        whole: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
        return whole
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    mapped: NDArray[Any] = np.memmap(
        _piece(tensor, _holder(tensor, folders)), dtype, mode="r", shape=tuple(tensor.dims)
    )
    return mapped


def blocks(tensor: onnx.TensorProto, folder: Path) -> Iterator[NDArray[Any]]:
    """The numbers of a weight in a file of its own, a flat run of them at a time: it need not fit into memory twice."""
    flat = array(tensor, folder).reshape(-1)
    for start in range(0, len(flat), BLOCK):
        yield flat[start : start + BLOCK]


def save(model: onnx.ModelProto, folder: Path, precision: str, call: Call | None = None) -> ModelInfo:
    """Write the model as `model.onnx`, its big weights and `model.json` beside it; the model itself is not changed.

    With `call` the weights that its input has are passed on instead of written: then the output can't be executed yet.
    """
    light = _without_weights(model)
    names = set()
    for tensor in model.graph.initializer:
        if not is_apart(tensor) and len(tensor.raw_data) < PIECE_BYTES:
            light.graph.initializer.append(tensor)
            continue
        name = _location(tensor) if is_apart(tensor) else f"{PIECES}/{hashlib.sha256(tensor.raw_data).hexdigest()}"
        _put(tensor, name, folder, call)
        names.add(name)
        light.graph.initializer.append(_reference(tensor, name))
    (folder / ENTRY).write_bytes(light.SerializeToString(deterministic=True))
    return describe(model, folder, precision, tuple(sorted(names)))


def _put(tensor: onnx.TensorProto, name: str, folder: Path, call: Call | None) -> None:
    """Have the folder hold a weight under this name."""
    if call and (call.input("model") / name).is_file():
        call.pass_on(name)
    elif is_apart(tensor) and (folder / name).is_file():
        return
    elif is_apart(tensor):
        raise StageError(f"the weight {tensor.name} was not read, and the input has no {name}")
    else:
        (folder / PIECES).mkdir(exist_ok=True)
        (folder / name).write_bytes(tensor.raw_data)


def move_out(tensor: onnx.TensorProto, blocks: Iterable[NDArray[Any]], folder: Path) -> None:
    """Give a tensor of a known type and shape its numbers, block after block: in a file of its own in `folder`, which
    `save` then finds there, or within itself where they are few."""
    import onnx

    if math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize < PIECE_BYTES:
        tensor.raw_data = b"".join(block.tobytes() for block in blocks)
        return
    (folder / PIECES).mkdir(exist_ok=True)
    digest = hashlib.sha256()
    unnamed = folder / PIECES / "unnamed"
    with unnamed.open("wb") as file:
        for block in blocks:
            file.write(block.data)
            digest.update(block.data)
    name = f"{PIECES}/{digest.hexdigest()}"
    unnamed.replace(folder / name)
    tensor.CopyFrom(_reference(tensor, name))


def _reference(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    import onnx

    made = onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    made.data_location = onnx.TensorProto.EXTERNAL
    made.external_data.add(key=LOCATION, value=name)
    return made


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of all but the initializers."""
    import onnx

    light = onnx.ModelProto()
    for whole, part in ((model, light), (model.graph, light.graph)):
        for field, value in whole.ListFields():
            if field.name in {"graph", "initializer"}:
                continue
            if isinstance(value, str | int | bytes | float):
                setattr(part, field.name, value)
            else:
                getattr(part, field.name).MergeFrom(value)
    return light


def _location(tensor: onnx.TensorProto) -> str:
    """Where a weight lies, from its model; StageError for what `save` doesn't write."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    parts = PurePosixPath(entries.get(LOCATION, "")).parts
    if entries.keys() != {LOCATION} or len(parts) != 2 or parts[0] != PIECES or ".." in parts:  # noqa: PLR2004
        raise StageError(f"the weight {tensor.name} lies outside of the model's folder", kind="model")
    return "/".join(parts)


def _piece(tensor: onnx.TensorProto, folder: Path) -> Path:
    path = folder / _location(tensor)
    if path.is_symlink() or not path.is_file():
        raise StageError(f"the file of the weight {tensor.name} is missing", kind="model")
    return path


def _holder(tensor: onnx.TensorProto, folders: Sequence[Path]) -> Path:
    """The first of the folders that holds a weight which was left in its file; StageError where none does."""
    found = next((folder for folder in folders if (folder / _location(tensor)).is_file()), None)
    if found is None:
        raise StageError(f"the file of the weight {tensor.name} is missing", kind="model")
    return found


def one_file(folder: Path, scratch: Path) -> Path:
    """The model of an artifact for a reader that refuses hard links: as it is, or written to `scratch` with its weights
    in it (or in one file beside it, where it is too big)."""
    info = ModelInfo.read(folder)
    if not in_pieces(info):
        return folder / info.entry
    _write_whole(read(folder / info.entry), scratch)
    return scratch / ENTRY


def in_pieces(info: ModelInfo) -> bool:
    """Whether weights are files of their own."""
    return any(name.startswith(f"{PIECES}/") for name in info.files)


def ship(call: Call, info: ModelInfo) -> ModelInfo:
    """Have the output hold the files of the input's model as one ships them: an ONNX model as one file, for which users
    have tools. Returns what to write into `model.json`."""
    if not in_pieces(info):
        for name in info.files:
            call.pass_on(name)
        return info
    _write_whole(read(call.input("model") / info.entry), call.output)
    kept = (name for name in info.files if not name.startswith(f"{PIECES}/"))
    weights = (WEIGHTS,) if (call.output / WEIGHTS).is_file() else ()
    return dataclasses.replace(info, files=(*kept, *weights))


def _write_whole(model: onnx.ModelProto, folder: Path) -> None:
    import onnx

    external = not fits_one_file(model)
    onnx.save(model, str(folder / ENTRY), save_as_external_data=external, location=WEIGHTS if external else None)


def fits_one_file(model: onnx.ModelProto) -> bool:
    """Whether the model can be one protobuf message, as whatever serializes it (the checker, say) needs."""
    # ByteSize() itself fails on a message that is too big.
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= ONE_FILE_BYTES


def describe(model: onnx.ModelProto, folder: Path, precision: str, weights: tuple[str, ...] = ()) -> ModelInfo:
    """Write `model.json` for the `model.onnx` that `folder` holds, and the files of its weights."""
    info = ModelInfo(
        format="onnx",
        entry=ENTRY,
        files=(ENTRY, *weights),
        precision=precision,
        inputs=tensors(model.graph.input),
        outputs=tensors(model.graph.output),
    )
    info.write(folder)
    return info


def tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    """Names, dtypes and shapes of graph inputs or outputs."""
    import onnx

    def described(value: onnx.ValueInfoProto) -> Tensor:
        kind = value.type.tensor_type
        shape = tuple(_dimension(dimension) for dimension in kind.shape.dim)
        return Tensor(name=value.name, dtype=str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape=shape)

    return tuple(described(value) for value in values)


def value_info(tensor: Tensor) -> onnx.ValueInfoProto:
    """The ONNX declaration of a tensor."""
    import numpy as np
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return onnx.helper.make_tensor_value_info(tensor.name, kind, list(tensor.shape))


def _dimension(dimension: Any) -> int | str:
    if dimension.HasField("dim_value"):
        return int(dimension.dim_value)
    return str(dimension.dim_param) or "?"
