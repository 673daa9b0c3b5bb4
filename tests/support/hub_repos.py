"""Repositories for the stand-in hub: a small model and a dataset, as their owners would have put them there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from portwright.project import this_project
from support.stage_call import Stages
from support.stub_hub import Repo, repo_of

MODEL = "acme/tiny-bert"
DATASET = "acme/xnli"
CARD = b"""---
configs:
- config_name: en
  data_files:
  - split: validation
    path: en/validation-*.parquet
---
"""
# Each premise stands in three rows, as in XNLI, and one row comes twice.
MAKE_PARQUET = """
import sys, pyarrow, pyarrow.parquet
rows = [{"premise": f"premise {i // 3}", "hypothesis": f"hypothesis {i}", "label": i % 3} for i in range(30)]
pyarrow.parquet.write_table(pyarrow.Table.from_pylist([rows[0], *rows]), sys.argv[1])
"""
# A synthetic model keeps its seed alone; a repository has the weights.
MAKE_MODEL = """
import sys, pathlib
from stagelib import synthetic
synthetic.materialize(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), lambda *_: None)
"""


def make_repos(python: Path, folder: Path) -> tuple[Repo, Repo]:
    """A model of random weights and an XNLI-like dataset; `python` is the exporter's."""
    seed = Stages(folder, python).run("synthesize", {"architecture": "bert-tiny", "seed": 1}).output
    model = folder / "model"
    environment = os.environ | {"PYTHONPATH": str(this_project().shared)}
    subprocess.run([str(python), "-c", MAKE_MODEL, str(seed), str(model)], env=environment, check=True)
    parquet = folder / "rows.parquet"
    subprocess.run([str(python), "-c", MAKE_PARQUET, str(parquet)], check=True)
    files = {"README.md": CARD, "en/validation-00000-of-00001.parquet": parquet.read_bytes()}
    return repo_of(model, "model", MODEL), Repo("dataset", DATASET, files)
