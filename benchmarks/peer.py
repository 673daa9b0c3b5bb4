"""The five published recipes made cold by us and by the peer, Microsoft's Olive, in turn: CPU, wall, memory, disk.

`python -m benchmarks.peer --peer=VENV[,VENV…]` with the peer's environments: for each recipe the first one serves that
has what it needs (`olive-ai` with `onnxruntime` and `datasets`; for OpenVINO with `optimum-intel`, `openvino` and
`nncf`). Without `--peer` only ours is measured. Each recipe is a whole process on each side, in environments that are
there and were used before, and without what measures: `--make-only` on our side, no evaluator on the peer's. A repeat
starts with an empty host volume and an empty cache; its five recipes share them. `--similarity` holds the models of the
last repeat against fp32 on texts that calibrated neither side's, which says something of real weights only.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Figure, markdown
from benchmarks.made import TEXTS
from benchmarks.peer_figures import Matrix, figures, stage_seconds
from benchmarks.peer_recipes import PUBLISHED, Published
from benchmarks.peer_sides import (
    Environment,
    Taken,
    environments,
    folder_bytes,
    on_disk,
    ours,
    peers,
)
from benchmarks.processes import INVOKE, leaving_in_order, succeeded, timed
from benchmarks.toolchains import in_toolchain

MODEL = "synthetic:bert-base?seed=0"
SYNTHETIC = re.compile(r"synthetic:(?P<architecture>[\w-]+)\?seed=(?P<seed>\d+)")
WARMING = "synthetic:bert-tiny?seed=0"


def measure(
    model: str, texts: Path, peer: Sequence[str], repeats: int, scratch: Path, *, warm: bool, similarity: bool
) -> list[Matrix]:
    """Every repeat's matrix; `scratch` is a folder with room for a repeat (10 GB for BERT-base)."""
    having = environments(peer)
    targets = ",".join(published.target for published in PUBLISHED)
    succeeded(timed([*INVOKE, "build", f"--target={targets}", "--engine=venv"]), "building our environments")
    if warm:
        print("warming: the five recipes of a tiny model, which count nowhere", flush=True)
        tiny = _local(WARMING, scratch / "tiny")
        _matrix(tiny, texts, having, scratch / "warming", peer_first=False, similarity=False)
    folder = _local(model, scratch / "model")
    taken = []
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory(prefix="repeat-", dir=scratch) as name:
            last = repeat == repeats - 1
            one = _matrix(
                folder, texts, having, Path(name), peer_first=bool(repeat % 2), similarity=similarity and last
            )
            taken.append(one)
    return taken


def _local(model: str, folder: Path) -> Path:
    """A folder that both sides read; for a synthetic model `folder`, with its weights."""
    synthetic = SYNTHETIC.fullmatch(model)
    if not synthetic:
        return Path(model).resolve()
    in_toolchain("exporter", "benchmarks.weights", [synthetic["architecture"], synthetic["seed"], folder])
    return folder


def _matrix(
    model: Path, texts: Path, having: Sequence[Environment], folder: Path, *, peer_first: bool, similarity: bool
) -> Matrix:
    """The five recipes cold in an empty folder, each by one side and then by the other."""
    volume, cache = folder / "ours", folder / "peer" / "cache"
    taken: dict[str, dict[str, Taken]] = {"ours": {}, "peer": {}}
    for published in PUBLISHED:
        name, environment = published.name, _serving(published, having)
        for side in ("peer", "ours") if peer_first else ("ours", "peer"):
            if side == "ours":
                taken[side][name] = ours(published, model, texts, volume)
            elif environment:
                taken[side][name] = peers(published, environment.python, model, texts, folder / "peer" / name, cache)
            else:
                continue
            cost = taken[side][name].cost
            print(
                f"{name}, {side}: {cost.cpu_s:.1f} CPU s, {cost.wall_s:.1f} s, {cost.peak_bytes / 1e6:,.0f} MB",
                flush=True,
            )
    alike = {}
    if similarity:
        alike = {name: dict(_alike(one, taken["peer"].get(name), folder)) for name, one in taken["ours"].items()}
    kept = folder_bytes(cache) if cache.is_dir() else 0
    return Matrix(ours=taken["ours"], peers=taken["peer"], disk=on_disk(volume), cache_bytes=kept, alike=alike)


def _serving(published: Published, having: Sequence[Environment]) -> Environment | None:
    """The peer's environment for a recipe: the first one that has what it needs."""
    return next((environment for environment in having if environment.has(published.needs)), None)


def _alike(one: Taken, peer: Taken | None, folder: Path) -> Iterator[tuple[str, tuple[float, float]]]:
    """Each side's mean and least cosine with our fp32 export; nothing of a model that doesn't run on a CPU."""
    assert one.made is not None
    export, texts = one.made.before("export").files, one.made.before("tokenize").files
    for side, model in (("ours", one.model), ("peer", peer.model if peer else None)):
        if model is None:
            continue
        found = folder / "similarity.json"
        try:
            given: list[str | Path] = ["similarity", found, export / "model.onnx", texts, model]
            in_toolchain("openvino", "benchmarks.quantization_sides", given)
        except RuntimeError as error:
            print(f"the model of {side} doesn't run on this CPU: {str(error).splitlines()[-1]}")
        else:
            [(mean, least)] = json.loads(found.read_text())
            yield side, (mean, least)


def collect(arguments: Sequence[str] | None = None) -> tuple[list[Figure], list[Matrix]]:
    """Figures by command-line arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer", default="", help="the peer's environments: folders or interpreters, with commas")
    parser.add_argument("--model", default=MODEL, help="a folder, or synthetic:NAME?seed=N")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="JSON lines with `text` and `premise`")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--similarity", action="store_true", help="hold the models against fp32, too")
    parser.add_argument(
        "--warm", action=argparse.BooleanOptionalAction, default=True, help="use the environments first"
    )
    given = parser.parse_args(arguments)
    named = list(filter(None, given.peer.split(",")))
    with tempfile.TemporaryDirectory(prefix="portwright-bench-") as scratch:
        texts, repeats, where = given.texts.resolve(), given.repeats, Path(scratch)
        taken = measure(given.model, texts, named, repeats, where, warm=given.warm, similarity=given.similarity)
    return list(figures(taken)), taken


def main() -> None:
    found, taken = collect()
    print(markdown(found))
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stage_seconds(taken).items())
    print(f"\nours by stage, CPU s of the last repeat: {stages}")


if __name__ == "__main__":
    with leaving_in_order():
        main()
