"""What the images weigh, what a build costs and what a container adds to a stage: `python -m benchmarks.images`.

Each figure beside its limit: size of every image that is built, and whether they share their base layer; what the host
sees of a stage less what the stage itself took; seconds of a build with nothing to do; and seconds to build a toolchain
anew after an edit of its lock, with the package cache warm. Times are of this machine and its load, which is printed;
the median of several is the figure, the spread stands beside it. Needs a Docker engine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, markdown
from benchmarks.processes import INVOKE, Cost, leaving_in_order, succeeded, timed
from portwright.engines.base import Event, Job
from portwright.engines.docker import DockerEngine
from portwright.engines.docker_api import connect, engine_host
from portwright.engines.docker_image import find_image
from portwright.engines.docker_owner import labels
from portwright.packages import read_settings
from portwright.project import this_project
from portwright.toolchain import Toolchain, load_toolchains

if TYPE_CHECKING:
    import docker

MB = 1e6
IMAGE_MB = 680.0
LIMITS_MB = {"exporter": 1100.0}
APART = {"quark": "carries PyTorch and a compiler"}
"""Images that no limit is set for, and why."""
WARM_S, UNCHANGED_S, OVERHEAD_S = 8.0, 1.0, 0.5
BARE_S = 60.0
"""Longest that a bare container is there; one that a killed benchmark left is removed by the next run."""
STAGE = """\
from dataclasses import dataclass
from stagelib.api import Result, Stage


@dataclass(frozen=True, kw_only=True)
class Params:
    pass


STAGE = Stage(summary="does nothing", params=Params)


def run(call, params):
    return Result(facts={})
"""


@dataclass(frozen=True)
class Size:
    """One toolchain's image: bytes uncompressed, and the digest of its lowest layer."""

    toolchain: str
    size: int
    base: str

    @property
    def limit_mb(self) -> float | None:
        return None if self.toolchain in APART else LIMITS_MB.get(self.toolchain, IMAGE_MB)

    def figure(self) -> Figure:
        note = APART.get(self.toolchain, "")
        return Figure(name=f"image {self.toolchain}", unit="MB", ours=[self.size / MB], limit=self.limit_mb, note=note)


def build_all(what: str) -> Cost:
    """`invoke build` of all targets, as a user runs it."""
    return succeeded(timed([*INVOKE, "build", "--target=all", "--engine=docker"]), what)


def sizes(client: docker.DockerClient, toolchains: dict[str, Toolchain]) -> list[Size]:
    """Of every toolchain whose current image the engine has."""
    images = {name: find_image(client, toolchain) for name, toolchain in toolchains.items() if toolchain.has_image}
    there = {name: client.images.get(image).attrs for name, image in images.items() if image}
    return [Size(name, int(attrs["Size"]), str(attrs["RootFS"]["Layers"][0])) for name, attrs in there.items()]


def warm_rebuild(engine: DockerEngine, client: docker.DockerClient, toolchain: Toolchain, repeats: int) -> Figure:
    """Builds of a toolchain whose lock was edited, one edit each; the images they make are removed again."""
    with tempfile.TemporaryDirectory(prefix="portwright-bench-") as name:
        folder = Path(name) / toolchain.name
        shutil.copytree(toolchain.folder, folder)
        shutil.copytree(toolchain.installer.parent, folder.parent / toolchain.installer.parent.name)

        def build(turn: int) -> float:
            with (folder / "requirements.lock").open("a") as lock:
                lock.write(f"# edit {turn} at {time.time_ns()}\n")
            edited = Toolchain(toolchain.name, folder)
            started = time.perf_counter()
            assert engine.prepare(edited, ignore)
            seconds = time.perf_counter() - started
            image = find_image(client, edited)
            assert image is not None
            client.images.remove(image)
            return seconds

        return measured(f"warm rebuild of {toolchain.name}", build, repeats, WARM_S)


def unchanged(repeats: int) -> Figure:
    """Of all, with every image there."""
    name = "unchanged build of all"
    costs = [build_all(name) for _ in range(repeats)]
    note = f"{statistics.median(cost.cpu_s for cost in costs):.2f} CPU s"
    return Figure(name=name, unit="s", ours=[cost.wall_s for cost in costs], limit=UNCHANGED_S, note=note)


def overhead(client: docker.DockerClient, toolchain: Toolchain, repeats: int) -> list[Figure]:
    """A stage that does nothing, through the engine, less the seconds that the stage says it took; and a bare container
    of the same image beside it, created, started, awaited and removed."""
    with tempfile.TemporaryDirectory(prefix="portwright-bench-") as name, _engine(Path(name), STAGE) as engine:
        engine.prepare(toolchain, ignore)
        image = find_image(client, toolchain)
        assert image is not None

        def stage(turn: int) -> float:
            job = _job(Path(name) / f"call-{turn}")
            started = time.perf_counter()
            outcome = engine.run(toolchain, job, ignore)
            return time.perf_counter() - started - outcome.seconds

        def bare(_: int) -> float:
            started = time.perf_counter()
            container = client.containers.create(image, ["true"], network_mode="none", labels=labels(BARE_S))
            try:
                container.start()
                container.wait()
            finally:
                container.remove(force=True)
            return time.perf_counter() - started

        stage(-1)  # the first asks the engine whether it sees this host's files
        return [
            measured("a container around a stage", stage, repeats, OVERHEAD_S),
            measured("a bare container", bare, repeats),
        ]


def measured(name: str, action: Callable[[int], float], repeats: int, limit: float | None = None) -> Figure:
    """`action` returns its own seconds of wall time."""
    before = time.process_time()
    seconds = [action(turn) for turn in range(repeats)]
    note = f"{(time.process_time() - before) / repeats:.2f} CPU s of the host's"
    return Figure(name=name, unit="s", ours=seconds, limit=limit, note=note)


def ignore(_: Event) -> None:
    """Events are for a board."""


def _job(folder: Path) -> Job:
    (folder / "input").mkdir(parents=True)
    (folder / "input" / "model").write_text("x")
    (folder / "work" / "output").mkdir(parents=True)
    return Job(
        stage="nothing",
        params={},
        inputs={"model": folder / "input"},
        output=folder / "work" / "output",
        log=folder / "log",
        label="bench/nothing",
    )


@contextmanager
def _engine(folder: Path, stage: str = "") -> Iterator[DockerEngine]:
    """The Docker engine, with a stage library that has one stage more if `stage` is its source."""
    project = this_project()
    shared = project.shared
    if stage:
        shared = folder / "shared"
        shutil.copytree(project.shared, shared, ignore=shutil.ignore_patterns("__pycache__"))
        (shared / "stagelib" / "stages" / "nothing.py").write_text(stage)
    engine = DockerEngine(shared, folder / "docker", read_settings)
    try:
        yield engine
    finally:
        engine.close()


def figures(client: docker.DockerClient, rebuild: list[str], repeats: int) -> Iterator[Figure]:
    """Sizes, then times; `rebuild` names the toolchains to build anew. What the engine lacks is built first."""
    build_all("building what is missing")
    toolchains = load_toolchains(this_project().docker)
    found = sorted(sizes(client, toolchains), key=lambda size: size.size)
    yield from (size.figure() for size in found)
    bases = {size.base for size in found if size.toolchain not in APART}
    yield Figure(name="base layers under them, those apart not counted", unit="", ours=[len(bases)], limit=1)
    yield from overhead(client, toolchains["ort"], 2 * repeats)
    yield unchanged(repeats)
    with tempfile.TemporaryDirectory(prefix="portwright-bench-") as name, _engine(Path(name)) as engine:
        for toolchain in rebuild:
            yield warm_rebuild(engine, client, toolchains[toolchain], repeats)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--rebuild", default="ort,openvino", help="toolchains to build anew, with commas; empty for none"
    )
    options = parser.parse_args()
    rebuild, known = list(filter(None, options.rebuild.split(","))), load_toolchains(this_project().docker)
    if unknown := [name for name in rebuild if name not in known or not known[name].has_image]:
        parser.error(f"--rebuild: no image {', '.join(unknown)}; there are {', '.join(known)}")
    client = connect(engine_host())
    try:
        print(markdown(list(figures(client, rebuild, options.repeats))))
        load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
        print(f"\nload of this machine now: {load}, {os.cpu_count()} cores")
    finally:
        client.close()


if __name__ == "__main__":
    with leaving_in_order():
        main()
