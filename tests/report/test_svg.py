from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from centerclip_pl.plots.style import new_figure, style
from centerclip_pl.report.svg import inline_svg

ATTACK = "</svg><script>alert(1)</script> --> $x^"


@pytest.fixture(scope="module")
def element() -> str:
    with style():
        figure = new_figure(4, 3)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], "o", label=ATTACK)
        axes.imshow([[0, 1], [1, 0]])
        axes.set_title(ATTACK)
        axes.legend()
        for text in axes.text(0, 0, "a"), axes.text(1, 1, "b"):
            text.set_gid("label")
    return inline_svg(figure, "one", f'A figure "{ATTACK}"')


def test_it_is_one_element_as_html_knows_it(element: str) -> None:
    assert element.startswith("<svg ")
    assert element.endswith("</svg>")
    assert "ns0:" not in element
    assert "<?xml" not in element
    assert "<!" not in element
    root = ElementTree.fromstring(element)
    assert root.get("role") == "img"
    assert root.get("aria-label") == f'A figure "{ATTACK}"'
    assert float((root.get("width") or "").removesuffix("pt")) == pytest.approx(4 * 72 * 1.35)
    assert root.get("viewBox") == "0 0 288 216"


def test_nothing_in_it_reaches_out_of_it(element: str) -> None:
    names = {node.tag.rpartition("}")[2] for node in ElementTree.fromstring(element).iter()}
    assert not names & {"style", "metadata", "script", "foreignObject", "a"}
    assert "script" not in names
    links = re.findall(r'href="([^"]*)"', element) + re.findall(r"url\(([^)]*)\)", element)
    assert links
    assert all(link.startswith(("#one-", "data:image/png;base64,")) for link in links)


def test_every_reference_has_its_id(element: str) -> None:
    ids = re.findall(r' id="([^"]*)"', element)
    assert len(ids) == len(set(ids))
    assert all(each.startswith("one-") for each in ids)
    references = set(re.findall(r'href="#([^"]*)"', element)) | set(re.findall(r"url\(#([^)]*)\)", element))
    assert references <= set(ids)
