"""A page becomes one HTML file that needs nothing else: no network, no other file, no script to be read."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from centerclip_pl.errors import ConfigError, DataError
from centerclip_pl.files import replacing
from centerclip_pl.report.page import Page

GENERATOR = "centerclip report"
_MARK = re.compile(rf'<meta name="generator" content="{GENERATOR} [^"]*">')
_HEAD = 4096  # bytes in which the mark stands


def render(page: Page) -> str:
    """The page as HTML.

    Everything but the figures' SVG is escaped. The page's Content-Security-Policy allows its own script (by its hash),
    styles and embedded pictures, and nothing from anywhere else.

    Args:
        page: what is said.
    """
    environment = Environment(
        loader=PackageLoader("centerclip_pl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates = files("centerclip_pl.report") / "templates"
    script = (templates / "sort.js").read_text(encoding="utf-8")
    style = (templates / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Matplotlib's SVG says colours and widths in style attributes, which only 'unsafe-inline' allows.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("report.html").render(
        page=page, generator=GENERATOR, policy=policy, script=Markup(script), style=Markup(style), Markup=Markup
    )


def require_writable(path: str | Path, *, force: bool = False) -> None:
    """Refuses a path that cannot become the report, before anything is computed.

    Args:
        path: the file; one that an earlier report was written to is replaced.
        force: replace any other file, too.

    Raises:
        ConfigError: the name does not end in .html, the folder is absent, or something else than a report is there.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--output={path}: a report is an HTML file", f"name it {path.name or 'report'}.html")
    if path.is_dir():
        raise ConfigError(f"--output={path}: is a folder", f"name a file in it: {path / 'report.html'}")
    if not path.parent.is_dir():
        raise ConfigError(f"--output={path}: there is no folder {path.parent}", "make it, or name another file")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--output={path}: {path.parent} may not be written to", "name a file in another folder")
    if path.exists() and not force and not _is_report(path):
        raise ConfigError(
            f"--output={path}: is a file that `centerclip report` did not write",
            "name another file, or add --force to replace it",
        )


def write_report(path: str | Path, html: str) -> None:
    """Writes the page; the file appears whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as part:
            part.write_text(html, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}", "name another file: --output=FILE.html"
        ) from error


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MARK.search(file.read(_HEAD).decode("utf-8", "replace")) is not None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", "name another file") from error
