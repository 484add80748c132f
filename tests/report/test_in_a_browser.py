"""The page in Chromium: complete, quiet, alone, and legible.

Playwright, because it can switch JavaScript off, cut the network, see every request, and print: WebDriver cannot do the
first three in a standard way. It drives the browser of the system; none is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",  # root in a container has no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

# Boxes of all texts of all figures, in pixels from the corner of their figure.
TEXT_BOXES = """() => [...document.querySelectorAll("figure svg")].map((svg) => {
    const whole = svg.getBoundingClientRect();
    const groups = svg.querySelectorAll('g[id*="-text_"], g[id*="-label"]');
    return {
        name: svg.closest("figure").id, width: whole.width, height: whole.height,
        boxes: [...groups].map((group) => {
            const box = group.getBoundingClientRect();
            const [x, y] = [whole.left, whole.top];
            return [group.id, box.left - x, box.top - y, box.right - x, box.bottom - y];
        }).filter(([, left, top, right, bottom]) => right > left && bottom > top),
    };
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium with an empty profile of its own."""
    named = os.environ.get("CENTERCLIP_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or name the binary with CENTERCLIP_CHROMIUM")
    if named and not Path(named).is_file():
        pytest.fail(f"CENTERCLIP_CHROMIUM={named}: there is no such file")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


class Opened:
    """The report in a tab, and what the tab did."""

    def __init__(self, browser: Browser, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, "offline": True, **options})
        self.page: Page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())


@pytest.fixture
def opened(browser: Browser, page_file: Path) -> Iterator[Opened]:
    """On a desktop."""
    tab = Opened(browser, page_file)
    yield tab
    tab.context.close()


def test_it_is_quiet_and_asks_for_nothing(opened: Opened, page_file: Path) -> None:
    opened.page.wait_for_load_state("networkidle")
    assert opened.messages == []
    assert opened.requests == [page_file.as_uri()]
    assert opened.page.evaluate("performance.getEntriesByType('resource').length") == 0


def test_names_from_files_do_nothing(opened: Opened) -> None:
    assert opened.page.evaluate("window.attacked") is None
    assert opened.page.locator("img").count() == 0
    assert opened.page.get_by_text("<script>window.attacked = 1</script>").count() > 0


def test_the_policy_forbids_scripts_and_the_network(opened: Opened) -> None:
    """Also what an attack that got into the page would do."""
    opened.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.attacked = 1";
            document.body.append(script);
        }"""
    )
    assert opened.page.evaluate("window.attacked") is None
    outcome = opened.page.evaluate("fetch('https://example.org/').then(() => 'sent', (error) => error.message)")
    assert outcome != "sent"
    assert any("Content Security Policy" in message for message in opened.messages)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_everything_is_there_and_fits(
    browser: Browser, page_file: Path, tmp_path: Path, viewport: dict[str, int], script: bool
) -> None:
    tab = Opened(browser, page_file, viewport=viewport, java_script_enabled=script)
    page = tab.page
    for kind, least in (("section", 11), ("figure", 13), ("figure svg", 13), ("table", 5), ("h1", 1), (".caveats", 2)):
        elements = page.locator(f"{kind}:not(details *)").all()  # the runs are behind a click
        assert all(each.is_visible() for each in elements), kind
        shown = [box for each in elements if (box := each.bounding_box())]
        assert len(shown) == len(elements), kind
        assert len(shown) >= least, kind
        assert all(box["width"] > 20 and box["height"] > 10 for box in shown), kind
    for box in (page.locator("body").bounding_box(), page.locator("main").bounding_box()):
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= viewport["width"]
    if script:
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        page.locator("details").first.evaluate("each => each.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    tab.context.close()


def test_runs_open_by_a_click_without_a_script(browser: Browser, page_file: Path) -> None:
    tab = Opened(browser, page_file, java_script_enabled=False)
    command = tab.page.locator("details code").first
    assert not command.is_visible()
    tab.page.locator("summary").first.click()
    assert command.is_visible()
    assert tab.page.locator("th button").count() == 0  # nothing that cannot be used
    tab.context.close()


def test_a_click_sorts(opened: Opened) -> None:
    table = opened.page.locator("#protocol-1-settings-t2v")
    names = table.locator("thead th").all_inner_texts()
    for name, first in (("mean rank", "ascending"), ("R@5 (%)", "descending")):
        place = [text.strip() for text in names].index(name)
        head = table.locator("thead th").nth(place)
        for order in (first, {"ascending": "descending", "descending": "ascending"}[first]):
            head.locator("button").click()
            assert head.get_attribute("aria-sort") == order
            cells = table.locator(f"tbody tr > :nth-child({place + 1})").all()
            values = [float(str(cell.get_attribute("data-sort"))) for cell in cells]
            assert values == sorted(values, reverse=order == "descending")
            assert len(set(values)) > 2
    assert table.locator("thead th[aria-sort]").count() == 1


def test_a_click_sorts_words_and_leaves_what_has_no_value_last(opened: Opened) -> None:
    table = opened.page.locator("#protocol-1-settings-t2v")
    head = table.locator("thead th").first
    opened.page.evaluate("document.querySelector('#protocol-1-settings-t2v tbody th').removeAttribute('data-sort')")
    without = table.locator("tbody th").first.inner_text()
    for _ in range(2):
        head.locator("button").press("Enter")  # with the keyboard, too
        texts = table.locator("tbody th").all_inner_texts()
        assert texts[-1] == without
        order = head.get_attribute("aria-sort")
        keys = [each.get_attribute("data-sort") for each in table.locator("tbody th").all()[:-1]]
        assert keys == sorted(map(str, keys), reverse=order == "descending")


def test_wide_tables_scroll_in_their_own_box(browser: Browser, page_file: Path) -> None:
    tab = Opened(browser, page_file, viewport=PHONE)
    box = tab.page.locator(".box").first
    wide, seen = box.evaluate("each => [each.scrollWidth, each.clientWidth]")
    assert wide > seen
    box.evaluate("each => { each.scrollLeft = 200; }")
    assert box.evaluate("each => each.scrollLeft") == 200
    assert tab.page.evaluate("window.scrollX") == 0
    tab.context.close()


def test_texts_of_figures_are_whole_and_do_not_overlap(opened: Opened) -> None:
    figures = opened.page.evaluate(TEXT_BOXES)
    assert len(figures) >= 13
    for figure in figures:
        assert len(figure["boxes"]) >= 5, figure["name"]
        for name, left, top, right, bottom in figure["boxes"]:
            inside = (
                left >= -0.5 and top >= -0.5 and right <= figure["width"] + 0.5 and bottom <= figure["height"] + 0.5
            )
            assert inside, f"{figure['name']}: {name} is cut"
        for place, (name, left, top, right, bottom) in enumerate(figure["boxes"]):
            for other, left2, top2, right2, bottom2 in figure["boxes"][place + 1 :]:
                across, down = min(right, right2) - max(left, left2), min(bottom, bottom2) - max(top, top2)
                assert across <= 0.5 or down <= 0.5, f"{figure['name']}: {name} covers {other}"


def test_it_prints_on_paper(opened: Opened, tmp_path: Path) -> None:
    pdf = opened.page.pdf(prefer_css_page_size=True, path=tmp_path / "page.pdf")
    assert pdf.startswith(b"%PDF-")
    sizes = re.findall(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)\s*\]", pdf)
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 6 <= pages <= 20
    assert len(sizes) == pages
    upright = [float(width) < float(height) for width, height in sizes]
    assert True in upright
    assert False in upright  # the table of runs lies on its side
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_dark_mode_keeps_its_contrast(browser: Browser, page_file: Path) -> None:
    tab = Opened(browser, page_file, color_scheme="dark")
    ratio = tab.page.evaluate(
        """() => {
            const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
                .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
                .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
            const style = getComputedStyle(document.body);
            const [ink, paper] = [light(style.color), light(style.backgroundColor)];
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        }"""
    )
    assert ratio > 7  # WCAG 2, level AAA
    tab.context.close()
