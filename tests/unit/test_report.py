"""The report's three forms: complete, harmless whatever a name holds, written whole or not at all."""

from __future__ import annotations

import ast
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

import portwright.report
from portwright.errors import UsageError
from portwright.labels import ran_on
from portwright.project import Project
from portwright.published import PublishedFigures
from portwright.report import render, report
from portwright.report.data import load_runs
from portwright.report.document import Report
from portwright.report.figures import NONE
from portwright.report.markdown import escape
from portwright.report.notes import notes, published_oddities
from portwright.report.plots import latency, names, plotting
from support.report_runs import SCRIPT, Volume, fill
from support.sample_results import gate, ratio, result


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("volume")
    fill(root)
    return root


@pytest.fixture(scope="module")
def page(volume: Path) -> str:
    return render(volume, "html")


class Tags(HTMLParser):
    """Every element of a page with its attributes, and all text outside of the style sheet."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_reaches_for_nothing(page: str) -> None:
    tags = Tags(page).found
    assert {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "img", "form"} == set()
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    links = {
        value
        for tag, attributes in tags
        if tag != "link"
        for name in ("href", "src")
        if (value := attributes.get(name))
    }
    assert all(link.startswith("#") for link in links)
    assert "://" not in page.replace("http://www.w3.org", "")
    assert "@import" not in page
    assert "url(" not in re.sub(r"url\(#", "", page)


def test_names_are_shown_and_not_run(page: str) -> None:
    assert SCRIPT not in page
    assert SCRIPT in "".join(Tags(page).text)


def test_every_id_is_there_once_and_every_link_leads_somewhere(page: str) -> None:
    tags = Tags(page).found
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {value[1:] for _, attributes in tags if (value := attributes.get("href")) and value.startswith("#")}
    named = {name for _, attributes in tags for name in (attributes.get("aria-labelledby") or "").split()}
    assert links
    assert links | named <= set(ids)


def test_plots_take_the_pages_colours(page: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(plots) >= 10
    for plot in plots:
        tree = ET.fromstring(plot)  # noqa: S314 - ours
        assert not re.search(r"(fill|stroke): *#", plot)
        assert tree.findtext("title")
        assert tree.findtext("desc")
        assert tree.get("role") == "img"


def test_failures_stand_before_everything_else(page: str, volume: Path) -> None:
    assert page.index("gate similarity.mean: mean cosine over 64 texts is 0.9421") < page.index("What ran where</h2>")
    assert [note.kind for note in notes(load_runs(volume))] == ["failed", "unreadable", "doubtful"]
    assert "it loses most in: /encoder/layer.0/output/dense/Add_output_0 (Gemm, adds 30.0%)" in page


@pytest.mark.parametrize(
    "text",
    [
        "nothing here can tell",
        "CPU stand-in",
        "Emulator, not a device",
        "compiled and not executed here",
        "Random weights",
        "the printed minimum latency, 16.29 ms, exceeds the printed mean, 14.71 ms",
        "37.8 to 71.9",
        "published for <code>neuralmind/bert-base-portuguese-cased</code>",
        "a binary for SM8850: the SDK is not in vendor/",
        "3 of 8 stages came from an earlier run",
        "+6.10 points",
        "McNemar p 0.00021",
        "60 s: 1.90 ms at first",
        "torch 2.13.0+cpu",
        "Over time",
    ],
)
def test_the_page_says(page: str, text: str) -> None:
    assert text in page


def test_what_is_said_of_published_figures_is_said_once(tmp_path: Path) -> None:
    volume = Volume(root=tmp_path)
    for recipe in ("first", "second"):
        odd = {"source": "page", "device": "an NPU", "latency_mean_ms": 1.0, "latency_min_ms": 2.0}
        volume.add("minilm", result(recipe=recipe, published=odd))
    page = render(tmp_path, "html")
    assert page.count("exceeds the printed mean") == 1
    assert all(f"openvino<small>{recipe}</small>" in page for recipe in ("first", "second"))


def test_what_ran_is_never_called_a_device_that_was_none() -> None:
    assert ran_on(result()).kind == "cpu"
    assert ran_on(result(executed_on="device")).kind == "device"
    assert ran_on(result(executed_on="emulator")).kind == "emulator"
    assert ran_on(result(executed__deployable=False)).kind == "stand-in"
    assert ran_on(result(gates=[gate("placement", "untold", 1.0, 1.0, "stood in")])).kind == "stand-in"


def test_an_edited_result_is_named(tmp_path: Path) -> None:
    folder = Volume(root=tmp_path).add("minilm", result())
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text.replace("0.9977", "0.9999"))
    [note] = notes(load_runs(tmp_path))
    assert "changed after the run" in note.reasons[0]


def test_what_cannot_be_measured_leaves_gaps_and_no_error(tmp_path: Path) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        (
            "latency_ms",
            "baseline_latency_ms",
            "throughput",
            "latency_ratio",
            "latency_ratio_interval",
            "all_threads",
            "verdict",
        )
    )
    folder = Volume(root=tmp_path).add(
        "minilm", result(similarity__mean=None, similarity__min=None, protocol=None, **nothing)
    )
    for name in ("measurements.jsonl", "manifest.json"):
        (folder / name).unlink()
    assert "Not timed: time means nothing here." in render(tmp_path, "html")
    assert f"| {NONE} |" in render(tmp_path, "markdown")
    assert json.loads(render(tmp_path, "json"))["runs"][0]["result"]["latency_ms"] is None


def test_the_json_document_holds_everything(volume: Path) -> None:
    value = json.loads(render(volume, "json"))
    jsonschema.validate(value, Report.model_json_schema(mode="serialization"))
    assert value["version"] == 1
    assert len(value["runs"]) == 7
    assert [item["folder"] for item in value["unreadable"]] == ["hostile/damaged"]
    [openvino] = [run for run in value["runs"] if run["result"]["target"] == "openvino"]
    assert [point["latency_ratio"] for point in openvino["history"]] == [0.24, 0.238, 0.232]
    assert openvino["result"]["gates"][0]["found"] == 0.9977


def test_the_summary_is_short_and_its_table_whole(volume: Path) -> None:
    text = render(volume, "markdown")
    assert text.startswith("## Portwright: 6 passed, 1 failed, 1 can't be read\n\n**Failed: ")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 7
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {12}
    assert "<script" not in text.replace("\\<script", "")


def test_markdown_shows_text_as_it_is() -> None:
    assert escape("a|b\n# c_d <i>[x](y)`") == r"a\|b \# c\_d \<i\>\[x\](y)\`"


def test_a_model_chooses(volume: Path) -> None:
    assert {run.model for run in load_runs(volume, "minilm").runs} == {"minilm"}
    assert {run.model for run in load_runs(volume, f"/models/{SCRIPT}").runs} == {"hostile"}
    with pytest.raises(UsageError, match="did you mean 'minilm'"):
        load_runs(volume, "minilmm")


def test_nothing_to_report_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(tmp_path))
    with pytest.raises(UsageError, match="nothing to report") as caught:
        report(Project(tmp_path))
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_files_are_written_whole(volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTWRIGHT_ARTIFACTS", str(volume))
    project, out = Project(tmp_path), tmp_path / "ci" / "report.md"
    assert report(project, str(out), "markdown").endswith("report.md")
    assert out.read_text() == render(volume, "markdown")
    assert [path.name for path in out.parent.iterdir()] == ["report.md"]
    assert report(project, form="markdown") + "\n" == out.read_text()
    for arguments, named in (
        ((str(tmp_path),), "is a folder"),
        ((None, "htm"), "did you mean 'html'"),
        ((" ",), "is empty"),
    ):
        with pytest.raises(UsageError, match=named):
            report(project, *arguments)


def test_figures_that_cannot_be_right_are_named() -> None:
    assert published_oddities(PublishedFigures(source="", device="", latency_mean_ms=2.0, latency_min_ms=1.3)) == []
    [least, most] = published_oddities(
        PublishedFigures(source="", device="", latency_mean_ms=14.71, latency_min_ms=16.29, latency_max_ms=13.98)
    )
    assert "16.29 ms, exceeds" in least
    assert "13.98 ms, is below" in most


def test_the_distribution_is_drawn_from_every_raw_sample(volume: Path) -> None:
    run = next(run for run in load_runs(volume).runs if run.result.target == "cpu")
    assert {name: (len(timed.candidate), len(timed.baseline)) for name, timed in run.passes.items()} == {
        "one_thread": (40, 40),
        "all_threads": (40, 40),
    }
    with plotting():
        drawn = latency(run, "here")
    assert drawn.count("<use ") >= 160


def test_recipes_of_one_target_are_told_apart(tmp_path: Path) -> None:
    volume = Volume(root=tmp_path)
    for recipe in ("model_ov_static", "model_ov_best"):
        volume.add("minilm", result(recipe=recipe))
    volume.add("minilm", result(recipe="model_qdq", target="cpu", **ratio(0.8)))
    assert names(load_runs(tmp_path).runs) == ["ov_best", "ov_static", "cpu"]


def test_only_the_page_pays_for_plots_and_templates() -> None:
    package = Path(portwright.report.__file__).parent
    paths = [
        path for path in package.parent.rglob("*.py") if path.parent != package or path.stem not in {"html", "plots"}
    ]
    assert len(paths) > 40
    for path in paths:
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        named = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        named |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
        heavy = {"matplotlib", "jinja2", "portwright.report.html", "portwright.report.plots"}
        assert not {name for name in named if name in heavy or name.startswith("matplotlib.")}, path
