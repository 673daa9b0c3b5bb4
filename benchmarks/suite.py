"""The parts of the suite: the command of each, by which interpreter, and what it needs to be here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.made import TEXTS, make
from benchmarks.processes import ROOT
from benchmarks.toolchains import python_of
from portwright.errors import PortwrightError

SYNTHETIC = "synthetic:bert-base?seed=0"
REAL = ROOT / ".demo" / "minilm"
STARTUP = "openvino,qnn,vitisai,trt,dml"
INFERENCE_RATIO, SMALL_RATIO = 0.28, 0.30
"""Of OpenVINO's int8 on one thread over ONNX Runtime's fp32: BERT-base, and the small model."""
NAME = "bert-base-portuguese-cased"
TOOLCHAINS = {"nncf": "openvino", "qdq": "ort"}


class MissingError(Exception):
    """What a part needs isn't on this machine; the message says what, and how to have it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user gave the suite."""

    peer: str = ""
    """The peer's environments, with commas; empty for none."""
    real: Path = REAL
    """A small model with real weights."""
    texts: Path = TEXTS
    repeats: int = 2


@dataclass(frozen=True, kw_only=True)
class Command:
    """What measures a part; it prints Markdown tables."""

    module: str
    arguments: tuple[str, ...]
    python: Path = Path(sys.executable)

    @property
    def line(self) -> list[str]:
        return [str(self.python), "-m", f"benchmarks.{self.module}", *self.arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)])}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One table of docs/performance.md. `command` makes what is to be measured, and raises MissingError."""

    about: str
    command: Callable[[Options], Command]
    options: str = ""
    """Those of the suite that it takes, as the document shows them."""


def _startup(given: Options) -> Command:
    run = ("run", f"--target={STARTUP}", f"--model={_real(given)}", f"--data={given.texts}")
    return Command(module="startup", arguments=("--repeats=5", "--", *run))


def _scale(given: Options) -> Command:
    return Command(module="scale", arguments=(f"--repeats={given.repeats}",))


def _images(given: Options) -> Command:
    from portwright.engines.docker import docker_answers

    answers, why = docker_answers()
    if not answers:
        raise MissingError(f"no Docker engine answers: {why}")
    return Command(module="images", arguments=(f"--repeats={given.repeats}",))


def _nncf(given: Options) -> Command:
    return _quantization("nncf", "openvino", f"{NAME}_context_ov_static", "export", given)


def _qdq(given: Options) -> Command:
    return _quantization("qdq", "cpu", f"{NAME}_qdq_cpu", "fix_shape", given)


def _quantization(kind: str, target: str, recipe: str, stage: str, given: Options) -> Command:
    """BERT-base for what it takes, the small model for what it loses; both in fp32, as `stage` left them."""
    arguments = [kind, f"--repeats={given.repeats}"]
    for model, option, texts in ((SYNTHETIC, "--model", "--texts"), (_real(given), "--real", "--real-texts")):
        made = make(target, recipe, model, given.texts)
        arguments += [f"{option}={made.before(stage).files}", f"{texts}={made.before('tokenize').files}"]
    return Command(module="quantization", arguments=tuple(arguments), python=python_of(TOOLCHAINS[kind]))


def _inference(given: Options) -> Command:
    return _int8_beside_fp32(SYNTHETIC, INFERENCE_RATIO, given)


def _inference_real(given: Options) -> Command:
    return _int8_beside_fp32(_real(given), SMALL_RATIO, given)


def _int8_beside_fp32(model: str | Path, limit: float, given: Options) -> Command:
    made = make("cpu", f"{NAME}_qdq_cpu", model, given.texts)
    arguments = (f"--model={made.before('fix_shape').files}", f"--texts={made.before('tokenize').files}")
    more = (f"--repeats={given.repeats}", f"--limit={limit}")
    return Command(module="inference", arguments=(*arguments, *more), python=python_of("openvino"))


def _peer(given: Options) -> Command:
    arguments = (f"--peer={given.peer}", f"--model={SYNTHETIC}", f"--texts={given.texts}")
    return Command(module="peer", arguments=(*arguments, f"--repeats={given.repeats}"))


def _peer_real(given: Options) -> Command:
    if not given.peer:
        raise MissingError("it holds the peer's models against ours: name its environments with --peer")
    arguments = (f"--peer={given.peer}", f"--model={_real(given)}", f"--texts={given.texts}")
    return Command(module="peer", arguments=(*arguments, "--repeats=1", "--similarity"))


def _real(given: Options) -> Path:
    if not (given.real / "config.json").is_file():
        raise MissingError(f"no model in {given.real}: `make model` puts one there, or --model names a folder")
    return given.real


PARTS = {
    "startup": Part(about="what a command costs before it does anything", command=_startup),
    "scale": Part(about="a thousand recipes a target, planned; a hundred thousand artifacts", command=_scale),
    "images": Part(about="sizes, builds and containers", command=_images),
    "nncf": Part(about="OpenVINO's quantization beside NNCF's own call", command=_nncf),
    "qdq": Part(about="QDQ quantization beside ONNX Runtime's own call", command=_qdq),
    "inference": Part(about="int8 beside fp32 on this processor, BERT-base", command=_inference),
    "inference-real": Part(about="the same, the small model", command=_inference_real),
    "peer": Part(
        about="the five published recipes of BERT-base beside Olive", command=_peer, options="--peer=VENV,VENV"
    ),
    "peer-real": Part(
        about="the same on real weights, with similarity", command=_peer_real, options="--peer=VENV,VENV"
    ),
}


def command_of(part: str, given: Options) -> Command:
    """A part's command, with what it measures made; MissingError where something isn't here, RuntimeError where making
    fails."""
    try:
        return PARTS[part].command(given)
    except PortwrightError as error:
        raise MissingError(str(error)) from error
