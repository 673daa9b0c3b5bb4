"""`invoke report`: what the host volume's runs found, as one page, a CI summary or one JSON document."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path

from portwright.disk import sync_folder, write_synced, writing
from portwright.errors import UsageError
from portwright.naming import suggestion, user_path
from portwright.project import Project

FORMATS = ("html", "markdown", "json")
PAGE = "report.html"


def report(project: Project, out: str | None = None, form: str = "html", model: str | None = None) -> str:
    """Make the report; what to print: where it was written, or the report itself.

    Without `out` the page goes to `report.html` on the host volume, and the other forms are returned. UsageError where
    there is nothing to report, or for options that can't be; StoreError where the disk refuses.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}", hint=suggestion(form, FORMATS))
    if out is not None and not out.strip():
        raise UsageError("--out is empty", hint="give a file's name")
    text = render(project.artifacts, form, model)
    if out is None and form != "html":
        return text.rstrip("\n")
    path = project.artifacts / PAGE if out is None else user_path(out).absolute()
    if path.is_dir():
        raise UsageError(f"--out={out} is a folder", hint="give a file's name in it")
    write(path, text)
    return f"report: {project.show(path)}"


def render(root: Path, form: str, model: str | None = None) -> str:
    """The report of a host volume in one of FORMATS."""
    from portwright.report.data import load_runs

    runs = load_runs(root, model)
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    # Each form imports its own packages: a CI summary needs no plotting library.
    if form == "html":
        from portwright.report.html import page

        return page(runs, made)
    if form == "markdown":
        from portwright.report.markdown import summary

        return summary(runs)
    from portwright.report.document import document

    return document(runs, made).model_dump_json(indent=2) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; StoreError where the disk refuses."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_synced(fresh, text)
            fresh.replace(path)
            sync_folder(path.parent)
        finally:
            fresh.unlink(missing_ok=True)
