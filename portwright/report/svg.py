"""A plot as inline SVG that fits into the page: its colours, its font, its names; and nothing that reaches outside."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that a plot is drawn in; each becomes a variable of the page, which knows whether it is dark.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
OURS, BASELINE, ACCENT, FAINT = "#050505", "#060606", "#070707", "#080808"
VARIABLES: Mapping[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    PAPER: "--paper",
    OURS: "--ours",
    BASELINE: "--baseline",
    ACCENT: "--accent",
    FAINT: "--faint",
    "#000000": "--ink",
    "#ffffff": "--paper",
}
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def plain(text: str) -> str:
    """Text for a plot: no formula, and no character that XML can't hold."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text).replace("$", r"\$")


def inline_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element; `name` is unique in the page and begins every id."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # A script that the bundled font lacks is drawn by the page's own font.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format")))
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib wrote it
    for parent in list(root.iter()):
        for child in [item for item in parent if item.tag in {f"{_SVG}metadata", f"{_SVG}style"}]:
            parent.remove(child)
        _retouch(parent, name)
    _describe(root, name, title, description)
    return _serialize(root)


def _retouch(element: ET.Element, name: str) -> None:
    """Page variables for colours and font, and names that no other plot has."""
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.get('id')}")
    if _LINK in element.attrib:
        element.set("href", element.attrib.pop(_LINK).replace("#", f"#{name}-", 1))
    for key in ("clip-path", "mask", "fill"):
        if key in element.attrib:
            element.set(key, element.attrib[key].replace("url(#", f"url(#{name}-"))
    if "style" in element.attrib:
        element.set("style", _style(element.attrib["style"], name))


def _style(style: str, name: str) -> str:
    style = style.replace("url(#", f"url(#{name}-")
    style = re.sub(r"#[0-9a-f]{6}", lambda found: f"var({VARIABLES[found[0]]})", style)
    style = re.sub(r"font-family:[^;]*", "font-family: var(--sans)", style)
    return re.sub(r"font: (.*?px) [^;]*", r"font: \1 var(--sans)", style)


def _describe(root: ET.Element, name: str, title: str, description: str) -> None:
    """What a screen reader says of it."""
    width, height = root.get("viewBox", "0 0 0 0").split()[2:]
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    root.set("style", f"aspect-ratio: {width} / {height}")
    for tag, text in (("desc", description), ("title", title)):
        element = ET.Element(f"{_SVG}{tag}", {"id": f"{name}-{tag}"})
        element.text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
        root.insert(0, element)


def _serialize(root: ET.Element) -> str:
    """Without namespaces, which HTML neither needs nor wants."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
    return ET.tostring(root, encoding="unicode")
