"""A synthetic model as a folder that any tool reads, weights and all: `python -m benchmarks.weights NAME SEED FOLDER`.

By the interpreter of the toolchain `exporter`; `NAME` is an architecture of the stage `synthesize`.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stagelib import synthetic
from stagelib.api import Call
from stagelib.stages import synthesize


def write(architecture: Any, seed: int, folder: Path) -> None:
    """`folder` must not be there yet."""
    with tempfile.TemporaryDirectory() as name:
        source, scratch = Path(name) / "source", Path(name) / "scratch"
        source.mkdir()
        scratch.mkdir()
        call = Call(stage="synthesize", inputs={}, output=source, scratch=scratch, events=io.StringIO())
        synthesize.run(call, synthesize.Params(architecture=architecture, seed=seed))
        synthetic.materialize(source, folder, lambda *_: None)


def main(argv: Sequence[str]) -> None:
    architecture, seed, folder = argv
    write(architecture, int(seed), Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
