"""RUNS -> ONE PAGE that opens offline: tables and plots for people who do not open notebooks."""

from centerclip_pl.report.build import build_page
from centerclip_pl.report.html import render, require_writable, write_report
from centerclip_pl.report.page import Page
from centerclip_pl.report.sections import Options

__all__ = ["Options", "Page", "build_page", "render", "require_writable", "write_report"]
