"""The weights of a synthetic model, drawn from its seed: the seed is kept, and not hundreds of megabytes it makes."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = "synthetic.json"
WEIGHTS = "model.safetensors"


def mark(folder: Path, seed: int) -> None:
    """Make a folder with a model's configuration a synthetic model's."""
    (folder / SEED).write_text(json.dumps({"seed": seed}) + "\n")


def is_synthetic(folder: Path) -> bool:
    """Whether the folder holds a seed in the place of weights."""
    return (folder / SEED).is_file() and not any(folder.glob("*.safetensors"))


def shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Every weight of a BERT of this configuration, by name."""
    import torch
    from transformers import BertModel

    # Only names and shapes are taken from the library: its own random numbers differ between processors.
    with torch.device("meta"):
        found = {name: tuple(weight.shape) for name, weight in BertModel(config).state_dict().items()}
    return {name: shape for name, shape in found.items() if not name.endswith("position_ids")}


def materialize(source: Path, folder: Path, progress: Callable[[float, str], None]) -> None:
    """Write the synthetic model of `source` to a new folder as any other model: all its files, and its weights."""
    from safetensors.numpy import save_file
    from transformers import BertConfig

    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(SEED), copy_function=shutil.copyfile)
    config = BertConfig.from_pretrained(source, local_files_only=True)
    seed = json.loads((source / SEED).read_text())["seed"]
    wanted = sorted(shapes(config).items())
    weights = {}
    for done, (name, shape) in enumerate(wanted):
        weights[name] = weight(name, shape, seed, config.initializer_range)
        progress(done / len(wanted), name)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def weight(name: str, shape: tuple[int, ...], seed: int, deviation: float) -> NDArray[np.float32]:
    """One tensor, float32, as BERT starts: drawn from its own stream, so that no other tensor's size matters."""
    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    if name.endswith("LayerNorm.weight"):
        return np.ones(shape, np.float32)
    stream = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return stream.standard_normal(shape, np.float32) * np.float32(deviation)
