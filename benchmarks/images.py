"""What the images weigh, what a build costs and what a container adds to a stage: `python -m benchmarks.images`.

Four tables, each figure beside its limit: size of every image that is built, and whether they share their base layer;
seconds to build one toolchain anew after an edit of its lock, with the package cache warm; seconds of a build with
nothing to do; and what the host sees of a stage less what the stage itself took. Times are of this machine and of its
load, which is printed: the least of several is the figure, the spread stands beside it. Needs a Docker engine.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portwright.engines.base import Event, Job
from portwright.engines.docker import DockerEngine
from portwright.engines.docker_api import connect, engine_host
from portwright.engines.docker_image import find_image
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

    @property
    def within(self) -> bool:
        return self.limit_mb is None or self.size / MB < self.limit_mb


@dataclass(frozen=True)
class Times:
    """Repeats of one measurement, in seconds of wall time, and the CPU seconds of this process and its children."""

    name: str
    seconds: tuple[float, ...]
    cpu: float
    limit: float

    def __str__(self) -> str:
        low, high, middle = min(self.seconds), max(self.seconds), statistics.median(self.seconds)
        verdict = "met" if low < self.limit else "missed"
        return (
            f"{self.name:<28} {low:7.3f} {middle:7.3f} {high:7.3f} {len(self.seconds):3d} {self.cpu:7.2f} "
            f"{self.limit:6.1f}  {verdict}"
        )


HEAD = f"{'seconds':<28} {'least':>7} {'median':>7} {'most':>7} {'n':>3} {'cpu':>7} {'limit':>6}"


def sizes(client: docker.DockerClient, toolchains: dict[str, Toolchain]) -> list[Size]:
    """Of every toolchain whose current image the engine has."""
    images = {name: find_image(client, toolchain) for name, toolchain in toolchains.items() if toolchain.has_image}
    there = {name: client.images.get(image).attrs for name, image in images.items() if image}
    return [Size(name, int(attrs["Size"]), str(attrs["RootFS"]["Layers"][0])) for name, attrs in there.items()]


def warm_rebuild(engine: DockerEngine, client: docker.DockerClient, toolchain: Toolchain, repeats: int) -> Times:
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


def unchanged(repeats: int) -> Times:
    """`invoke build` of all targets with every image there, as a user runs it."""
    invoke = Path(sys.executable).with_name("invoke")

    def build(_: int) -> float:
        started = time.perf_counter()
        subprocess.run(
            [str(invoke), "build", "--target=all", "--engine=docker"],
            cwd=this_project().root,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - started

    build(0)  # the first builds what is missing
    return measured("unchanged build of all", build, repeats, UNCHANGED_S)


def overhead(client: docker.DockerClient, toolchain: Toolchain, repeats: int) -> list[Times]:
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
            container = client.containers.create(image, ["true"], network_mode="none")
            container.start()
            container.wait()
            container.remove(force=True)
            return time.perf_counter() - started

        stage(-1)  # the first asks the engine whether it sees this host's files
        return [
            measured("a container around a stage", stage, repeats, OVERHEAD_S),
            measured("a bare container", bare, repeats, OVERHEAD_S),
        ]


def measured(name: str, action: Callable[[int], float], repeats: int, limit: float) -> Times:
    """`action` returns its own seconds of wall time."""
    before = _cpu()
    seconds = tuple(action(turn) for turn in range(repeats))
    return Times(name, seconds, (_cpu() - before) / repeats, limit)


def ignore(_: Event) -> None:
    """Events are for a board."""


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


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
    engine = DockerEngine(shared, folder / "docker", read_settings())
    try:
        yield engine
    finally:
        engine.close()


def show_sizes(found: list[Size]) -> None:
    print(f"{'image':<12} {'MB':>6} {'limit':>6}")
    for size in sorted(found, key=lambda size: size.size):
        limit = f"{size.limit_mb:6.0f}" if size.limit_mb else "  none"
        verdict = APART.get(size.toolchain) or ("met" if size.within else "missed")
        print(f"{size.toolchain:<12} {size.size / MB:6.0f} {limit}  {verdict}")
    shared = {size.base for size in found if size.toolchain not in APART}
    print(f"base layers under them, those apart not counted: {len(shared)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--rebuild", default="ort,openvino", help="toolchains to build anew, with commas; empty for none"
    )
    options = parser.parse_args()
    toolchains = load_toolchains(this_project().docker)
    client = connect(engine_host())
    try:
        show_sizes(sizes(client, toolchains))
        print(HEAD)
        for times in overhead(client, toolchains["ort"], 2 * options.repeats):
            print(times, flush=True)
        print(unchanged(options.repeats), flush=True)
        with tempfile.TemporaryDirectory(prefix="portwright-bench-") as name, _engine(Path(name)) as engine:
            for toolchain in filter(None, options.rebuild.split(",")):
                print(warm_rebuild(engine, client, toolchains[toolchain], options.repeats), flush=True)
        print(
            f"load of this machine now: {', '.join(f'{load:.1f}' for load in os.getloadavg())}, {os.cpu_count()} cores"
        )
    finally:
        client.close()


if __name__ == "__main__":
    main()
