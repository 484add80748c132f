from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.report import Page, render, require_writable, write_report

FOREIGN = re.compile(r"""(?:src|href|action|data)\s*=\s*["']([^"'#][^"']*)|@import|url\((?!#)""")


class Elements(HTMLParser):
    """Names, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def html(page_file: Path) -> str:
    return page_file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(html: str) -> Elements:
    return Elements(html)


def test_elements_are_closed_in_order_and_ids_are_unique(elements: Elements) -> None:
    assert elements.open == []
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_nothing_is_loaded_from_anywhere(html: str, elements: Elements) -> None:
    assert [
        match for match in FOREIGN.findall(html) if match and not match.startswith(("data:", "http://www.w3.org"))
    ] == []
    assert not re.search(r"@import|url\((?!#)", html)
    links = [attributes.get("href") for tag, attributes in elements.tags if tag in ("a", "link")]
    assert all(str(link).startswith(("#", "data:,")) for link in links)


def test_the_policy_allows_the_one_script_and_no_network(html: str, elements: Elements) -> None:
    (policy,) = [
        str(attributes["content"])
        for tag, attributes in elements.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"
    assert not {"connect-src", "font-src", "frame-src"} & rules.keys()


def test_names_from_files_are_text(html: str, elements: Elements) -> None:
    assert "<script>window" not in html
    assert "<img" not in html
    assert [tag for tag, _ in elements.tags].count("script") == 1
    assert any("<script>window.attacked = 1</script>" in text for text in elements.texts)
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]


def test_headings_have_no_gaps_and_figures_are_described(elements: Elements) -> None:
    levels = [int(tag[1]) for tag, _ in elements.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    pictures = [attributes for tag, attributes in elements.tags if tag == "svg"]
    assert len(pictures) == [tag for tag, _ in elements.tags].count("figure")
    assert all(len(str(attributes.get("aria-label"))) > 40 for attributes in pictures)


def test_the_same_page_gives_the_same_bytes(page: Page, html: str) -> None:
    assert render(page) == html


def test_a_report_is_replaced_and_other_files_are_not(tmp_path: Path, page: Page) -> None:
    path = tmp_path / "r.html"
    require_writable(path)
    write_report(path, render(page))
    require_writable(path)  # ours
    assert [each.name for each in tmp_path.iterdir()] == ["r.html"]
    path.write_text("<html><body>my notes on <meta name='generator' content='centerclip report'></body></html>")
    with pytest.raises(ConfigError, match="did not write") as caught:
        require_writable(path)
    assert "--force" in str(caught.value)
    require_writable(path, force=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [("r.txt", "HTML file"), ("absent/r.html", "no folder"), ("folder.html", "is a folder")],
)
def test_places_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigError, match=message):
        require_writable(tmp_path / name, force=True)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_report(tmp_path / "absent" / "r.html", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_to_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_writable(tmp_path / "a.html")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(ConfigError, match="may not be written to"):
        require_writable(tmp_path / "a.html")
