"""The export without its weights on the way is the one with them; what is written is what gets checked."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from portwright.project import this_project

pytestmark = pytest.mark.scenario

# Each model is exported by the stage as it is, and where one of PyTorch's passes isn't found: then optimum's own way.
# After that what can go wrong before the check: a weight damaged once it is written, names that PyTorch changes.
EXPORTS = """
import hashlib, io, json, sys
from pathlib import Path
import torch, transformers
from stagelib import torchweights
from stagelib.api import Call, StageError
from stagelib.stages import export

SIZES = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=768, vocab_size=3000)
DISTILBERT = dict(dim=128, n_layers=2, n_heads=4, hidden_dim=768, vocab_size=3000)
DEBERTA = dict(position_buckets=32, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True)
MODELS = {
    "tied": (transformers.BertForMaskedLM, SIZES, "fill-mask", 14),
    "albert": (transformers.AlbertModel, SIZES | {"embedding_size": 64}, "feature-extraction", 17),
    "deberta": (transformers.DebertaV2Model, SIZES | DEBERTA, "feature-extraction", 17),
    "distilbert": (transformers.DistilBertModel, DISTILBERT, "feature-extraction", 20),
}

def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

def exported(source, folder, **params):
    for name in ("output", "scratch"):
        (folder / name).mkdir(parents=True)
    given = {"stage": "export", "inputs": {"source": source}, "events": io.StringIO()}
    call = Call(output=folder / "output", scratch=folder / "scratch", **given)
    facts = export.run(call, export.Params(**params)).facts
    return digests(folder / "output"), facts, (folder / "scratch" / "model.onnx").stat().st_size

def failure(folder):
    try:
        return str(exported(root / "distilbert", folder))
    except StageError as error:
        return error.message

def export_damaged(model, config, opset, call):
    names = export_whole(model, config, opset, call)
    piece = max((call.output / "weights").iterdir(), key=lambda path: path.stat().st_size)
    piece.write_bytes(bytes(piece.stat().st_size))
    return names

root, last, export_whole = Path(sys.argv[1]), torchweights.MERGES_WEIGHTS, export._export
merge = getattr(torch._C, last)
result = {"exports": []}
for name, (cls, sizes, task, opset) in MODELS.items():
    torch.manual_seed(0)
    cls(cls.config_class(**sizes)).save_pretrained(root / name)
    apart = exported(root / name, root / f"{name}-apart", task=task, opset=opset)
    torchweights.MERGES_WEIGHTS = "a_pass_that_is_gone"
    plain = exported(root / name, root / f"{name}-plain", task=task, opset=opset)
    torchweights.MERGES_WEIGHTS = last
    result["exports"].append({"model": name, "apart": apart, "plain": plain})
result["left_as_it_was"] = getattr(torch._C, last) is merge
setattr(torch._C, last, lambda *given: {name + "_": value for name, value in merge(*given).items()})
result["renamed"] = failure(root / "renamed")
setattr(torch._C, last, merge)
export._export = export_damaged
result["damaged"] = failure(root / "damaged")
model = transformers.DistilBertModel.from_pretrained(root / "distilbert")
model.embeddings.LayerNorm.weight.data[0] = float("nan")
model.save_pretrained(root / "distilbert")
export._export = export_whole
result["nan"] = failure(root / "nan")
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def result(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the exports gave: one process for all of them, since importing takes longer than they do."""
    environment = {**os.environ, "PYTHONPATH": str(this_project().shared), "HF_HUB_OFFLINE": "1"}
    command = [str(python), "-c", EXPORTS, str(tmp_path_factory.mktemp("export"))]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    )
    return found


def test_every_file_and_fact_is_optimums_own(result: dict[str, Any]) -> None:
    assert len(result["exports"]) == 4
    for export in result["exports"]:
        (files, facts, graph), (wanted, wanted_facts, whole) = export["apart"], export["plain"]
        assert files == wanted, export["model"]
        assert facts == wanted_facts
        assert facts["max_abs_diff_to_torch"] < 1e-4
        assert sum(name.startswith("weights/") for name in files) >= 2
        # What PyTorch wrote held no weight.
        assert graph < 300_000
        assert whole > 1_500_000


def test_pytorch_is_left_as_it_was(result: dict[str, Any]) -> None:
    assert result["left_as_it_was"]


def test_a_weight_damaged_on_its_way_to_the_disk_is_found(result: dict[str, Any]) -> None:
    assert "differs from PyTorch" in result["damaged"]


def test_a_model_that_computes_nan_by_itself_is_told_apart(result: dict[str, Any]) -> None:
    assert "NaN or infinity in PyTorch already" in result["nan"]


def test_a_pytorch_that_names_weights_otherwise_is_refused(result: dict[str, Any]) -> None:
    assert "made other inputs than input_ids, attention_mask" in result["renamed"]
