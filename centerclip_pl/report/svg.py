"""A matplotlib figure becomes an ``<svg>`` element that can stand beside others in one HTML page."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from centerclip_pl.plots.style import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_LARGER = 1.35
_URL = re.compile(r"url\(#([^)]+)\)")


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element for an HTML page.

    Letters are drawn as paths, so that the picture looks alike on machines without matplotlib's font. What is only safe
    in a file of its own is changed: ids get a prefix, and the style sheet, which would apply to the whole page, becomes
    a property of the element.

    Args:
        figure: what to show; not changed.
        name: prefix of the ids, unique in the page.
        description: read out instead of the picture.

    Returns:
        ``<svg role="img" aria-label="...">...</svg>``
    """
    root = ElementTree.fromstring(svg(figure))  # leaves out comments, which hold names of runs
    for parent in root.iter():
        for child in [child for child in parent if child.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata")]:
            parent.remove(child)
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    seen: Counter[str] = Counter()
    for element in root.iter():
        for key, value in element.items():
            if key == "id":  # parts of a figure may have one name, ids may not
                seen[value] += 1
                element.set(key, f"{name}-{value}" + (f"-{seen[value]}" if seen[value] > 1 else ""))
            elif key in ("href", f"{{{_XLINK}}}href") and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(key, _URL.sub(rf"url(#{name}-\1)", value))
    for side in ("width", "height"):  # drawn for paper, read from farther away
        root.set(side, f"{_LARGER * float(root.get(side, '0pt').removesuffix('pt')):.6g}pt")
    root.set("role", "img")
    root.set("aria-label", description)
    return _without_prefixes(ElementTree.tostring(root, encoding="unicode"))


def _without_prefixes(text: str) -> str:
    """``<ns0:svg xmlns:ns0=...>`` as HTML knows it: ``<svg xmlns=...>``; nothing is registered for other users."""
    for prefix, address in re.findall(r'xmlns:(\w+)="([^"]+)"', text.split(">", 1)[0]):
        if address == _SVG:
            text = text.replace(f"xmlns:{prefix}=", "xmlns=").replace(f"<{prefix}:", "<").replace(f"</{prefix}:", "</")
        elif address == _XLINK:
            text = text.replace(f"xmlns:{prefix}=", "xmlns:xlink=").replace(f" {prefix}:href=", " xlink:href=")
    return text
