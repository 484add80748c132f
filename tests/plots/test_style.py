from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from centerclip_pl.errors import ConfigError
from centerclip_pl.plots.style import contrast, headline, looks, new_figure, readable_on, save, style, svg


@pytest.fixture
def figure() -> Figure:
    with style():
        figure = new_figure(3.4, 2)
        figure.subplots().plot([0, 1], [1, 0])
        headline(figure, "a title of some words that is too long for one line of a column", "note $x$; " * 12)
    return figure


def test_saved_files_are_whole_and_fonts_are_embedded(figure: Figure, tmp_path: Path) -> None:
    files = save(figure, tmp_path / "new" / "folder" / "a.b")
    assert [file.name for file in files] == ["a.b.svg", "a.b.pdf", "a.b.png"]
    assert sorted(files[0].parent.iterdir()) == sorted(files)  # nothing temporary is left
    root = ET.parse(files[0]).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not root.findall(".//{*}text")  # outlines
    pdf = files[1].read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Subtype /Type3" not in pdf
    with Image.open(files[2]) as picture:
        picture.load()
        assert picture.size == (680, 400)


def test_the_same_figure_gives_the_same_bytes(figure: Figure, tmp_path: Path) -> None:
    first, second = save(figure, tmp_path / "one"), save(figure, tmp_path / "two")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_a_file_is_replaced_only_when_the_new_one_is_whole(
    figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = save(figure, tmp_path / "x", ["svg"])
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(MemoryError):
        save(figure, tmp_path / "x", ["svg"])
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_places_that_cannot_be_written_and_unknown_formats(figure: Figure, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be written"):
        save(figure, tmp_path / "file" / "x")
    with pytest.raises(ConfigError, match=r"gif is no form of a figure\n.*svg, pdf, png"):
        save(figure, tmp_path / "x", ["svg", "gif"])
    assert not (tmp_path / "x.svg").exists()


def test_svg_is_an_element_for_a_page_with_texts_if_asked(figure: Figure) -> None:
    assert svg(figure).startswith("<svg")
    root = ET.fromstring(svg(figure, text="none"))
    words = " ".join("".join(part.itertext()) for part in root.findall(".//{*}text"))
    assert "a title of some words" in words
    assert "$x$" in words  # not read as a formula


def test_no_line_of_the_headline_is_wider_than_the_figure(figure: Figure) -> None:
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = [text for text in figure.findobj() if getattr(text, "get_text", str)() and "\n" in text.get_text()]
    assert len(texts) == 2
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


def test_methods_keep_their_looks_and_no_two_are_alike() -> None:
    alone, together = looks(["spectral"]), looks(["kmedoids", "mine", "spectral", "other"])
    assert alone["spectral"] == together["spectral"]
    many = looks([f"method{number}" for number in range(40)])
    assert len({(look.colour, look.marker) for look in many.values()}) == 40
    few = looks(["kmedoids", "spectral", "pooling", "sparse", "temporal_shift", "token_shift", "baseline", "mine"])
    for part in zip(*few.values(), strict=True):
        assert len(set(map(str, part))) == 8  # colours, marks and line styles each


def test_texts_on_colours_can_be_read() -> None:
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.005)  # the well-known grey just below 4.5
    assert readable_on("#fde725") == "#000000"
    assert readable_on("#00204d") == "#ffffff"
    assert all(contrast(readable_on((v, v, v)), (v, v, v)) >= 4.5 for v in (0.0, 0.3, 0.45, 0.5, 0.7, 1.0))
