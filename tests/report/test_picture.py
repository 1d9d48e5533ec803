"""Figures as SVG files of their own."""

import xml.etree.ElementTree as ElementTree

from promptreach.report.findings import Curve, Heatmap, Series
from promptreach.report.picture import picture_svg


def test_a_picture_is_a_whole_document_with_title_legend_and_note():
    curve = Curve(
        title="Errors & <lengths> " + "of many prompts " * 6,
        x_label="tokens",
        y_label="error",
        series=[Series(name="a <b> & c", x=[1, 2, 4], y=[1.0, 1e-3, 1e-6])],
        log_x=True,
        log_y=True,
        note="measured once",
    )
    root = ElementTree.fromstring(picture_svg(curve))
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <b> & c", "measured once", "1e-6", "error (log scale)"} <= set(texts)
    assert " ".join(texts).startswith("Errors & <lengths> of many prompts")
    assert all(len(text) < 70 for text in texts)


def test_a_heatmap_can_be_a_picture():
    heatmap = Heatmap(title="shares", row_name="layer", column_name="head", unit="of attention", values=[[0.1, 0.9]])
    picture = picture_svg(heatmap)
    assert "shares" in "".join(ElementTree.fromstring(picture).itertext())
    # The cells get their size and colour from rules for this class.
    assert '<g class="heat">' in picture
