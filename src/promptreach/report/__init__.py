"""Findings and their blocks, figures, and the page, JSON and terminal text made of them, for any command."""

from promptreach.report.html import render_html, render_page, write_report
from promptreach.report.json import read_finding, read_report, render_finding, render_json, schema, validated
from promptreach.report.picture import picture_svg
from promptreach.report.text import print_finding, print_summary

__all__ = [
    "picture_svg",
    "print_finding",
    "print_summary",
    "read_finding",
    "read_report",
    "render_finding",
    "render_html",
    "render_json",
    "render_page",
    "schema",
    "validated",
    "write_report",
]
