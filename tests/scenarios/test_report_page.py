"""The report's page as a reader meets it: in a real browser, narrow and wide, light and dark, on paper."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from portwright.report import render
from support.browser import Opened, Scheme, chromium, opened
from support.report_runs import SCRIPT, fill

pytestmark = pytest.mark.scenario
WIDTHS = (360, 768, 1440)
BLANK = 16
"""Fewer colours than so many, and nothing was drawn."""
LEAST_CONTRAST = 4.5
# Each text's colour against the nearest background behind it, by WCAG's formula; plots are drawn in the same colours.
CONTRAST = """() => {
  const parse = c => (c.match(/[0-9.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; }
    return [255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll('body *:not(svg *):not(style)')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""

TOO_WIDE = "[...document.querySelectorAll('table')].filter(t => t.scrollWidth > t.parentElement.clientWidth + 1).length"
# Tables whose rows have more or fewer cells than their head.
UNEVEN = """[...document.querySelectorAll('table:not(:has([rowspan]))')]
  .filter(t => new Set([...t.rows].map(r => r.cells.length)).size > 1).map(t => t.caption.textContent)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("volume")
    fill(root)
    path = root / "report.html"
    path.write_text(render(root, "html"))
    return path


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


@pytest.fixture(params=["light", "dark"])
def look(request: pytest.FixtureRequest, browser: Browser, report: Path, width: int) -> Iterator[Opened]:
    """The page at each width, in each scheme; whatever it complained of by the end fails the test."""
    scheme: Scheme = request.param
    with opened(browser, report, width, scheme) as found:
        yield found
        assert found.complaints == []


def colours(png: bytes) -> int:
    with Image.open(io.BytesIO(png)) as image:
        return len(image.convert("RGB").getcolors(maxcolors=1 << 24) or [])


def test_nothing_sticks_out_and_nothing_is_empty(look: Opened, width: int) -> None:
    page = look.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.querySelectorAll('table')].filter(t => !t.tBodies[0]?.rows.length).length") == 0
    assert page.locator("table").count() >= 20
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("h1").count() == 1
    assert page.evaluate(UNEVEN) == []


def test_it_is_drawn_in_the_readers_colours(look: Opened, request: pytest.FixtureRequest) -> None:
    page = look.page
    assert colours(page.screenshot()) > BLANK
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    bright = int(paper.removeprefix("rgb(").split(",")[0]) > 128
    assert bright == ("light" in request.node.callspec.params.values())
    plots = page.locator("svg")
    assert plots.count() >= 10
    for index in range(plots.count()):
        assert colours(plots.nth(index).screenshot()) > BLANK, plots.nth(index).locator("title").text_content()


def test_every_text_can_be_read(look: Opened) -> None:
    page = look.page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found: list[tuple[float, str]] = page.evaluate(CONTRAST)
    assert len(found) > 200
    assert [item for item in found if item[0] < LEAST_CONTRAST] == []


def test_every_link_leads_to_its_place(look: Opened) -> None:
    page = look.page
    links = page.locator("a[href^='#']")
    assert links.count() == page.locator("a").count() > 10
    for index in range(links.count()):
        link = links.nth(index)
        target = (link.get_attribute("href") or "")[1:]
        link.evaluate("link => link.click()")
        assert page.evaluate("decodeURIComponent(location.hash.slice(1))") == target
        assert page.locator(f"[id='{target}']").count() == 1


def test_names_that_look_like_markup_are_text(look: Opened) -> None:
    page = look.page
    assert page.locator("script").count() == 0
    assert page.get_by_text(SCRIPT, exact=True).count() > 1


def test_a_keyboard_reaches_and_scrolls_it(browser: Browser, report: Path) -> None:
    with opened(browser, report, WIDTHS[0], "light") as found:
        page = found.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "To the content"
        region = page.locator(".scroll:has(#overview-table)")
        region.focus()
        page.keyboard.press("ArrowRight")
        # The page forbids eval, with which Playwright's own waiting would look again.
        for _ in range(100):
            if scrolled := page.evaluate("document.activeElement.scrollLeft > 0"):
                break
            page.wait_for_timeout(50)
        assert scrolled
        details = page.locator("summary").first
        details.focus()
        page.keyboard.press("Enter")
        assert page.locator("details").first.get_attribute("open") is not None
        assert found.complaints == []


def test_paper_holds_all_of_it(browser: Browser, report: Path) -> None:
    with opened(browser, report, 800, "dark") as found:
        page = found.page
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        inside = page.locator("details .facts").first
        assert inside.evaluate("element => element.getBoundingClientRect().height") > 20
        assert page.evaluate(TOO_WIDE) == 0
        assert page.pdf(format="A4").startswith(b"%PDF")
        assert found.complaints == []
