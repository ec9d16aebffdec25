import gzip
import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.figure_layout import Mark
from msksam_cli.io.preview import preview
from msksam_cli.io.report_page import Picture, Table
from msksam_cli.io.review_page import Overlay, ReviewCase, ReviewPage, Size, review_html
from msksam_cli.io.viewer_bundle import ViewerBundle

EVIL = '</script><b a="1">&'
TISSUES = TissueTable((Tissue(1, f"femur{EVIL}", color="#cc3333"), Tissue(5, "tibia", color="#3333cc")))
VOID = {"meta", "img", "link", "br", "input", "path", "option", "circle"}


class Parsed(HTMLParser):
    """Elements as (tag, attributes, depth of noscript), texts, and the data of scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.scripts = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), "noscript" in self.open))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), "noscript" in self.open))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)

    def named(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


@pytest.fixture
def page():
    grid = Grid((12, 10, 4), np.diag([-0.5, -0.7, 3.0, 1.0]))
    values = np.zeros(grid.shape, np.uint8)
    values[3:8, 2:7, 1:3] = 5
    volume = Volume(np.random.default_rng(4).normal(100, 9, grid.shape).astype(np.float32), grid)
    shown = preview(volume, LabelMap(values, grid, TISSUES), TISSUES)
    picture = Picture(b"\x89PNG", f"Slices {EVIL}", "A caption.")
    marks = (
        Mark(5, (10.2, 20.6, 40.0, 60.4), ((15.0, 25.0, True),)),
        Mark(1, None, ((30.0, 31.0, False),)),
    )
    case = ReviewCase(
        name=f"knee{EVIL}",
        rank="1 tissue empty.",
        cells=("2", "1"),
        statuses=("complete", "empty"),
        flags=("empty",),
        doubts=(f"tibia: lost {EVIL}",),
        remarks=("femur: cut",),
        overlay=Overlay(picture, Size(1400, 700), marks),
        maps=(Picture(b"\x89PNG", "Thickness map of knee", "Thickness map"),),
        tables=(Table(("tissue", "status"), (("tibia", EVIL),), "Tissues."),),
        preview=shown,
        labels_sha256="ab12",
    )
    plain = ReviewCase("plain", "Nothing.", ("2", "2"))
    viewer = ViewerBundle("ipyniivue 2.4", b"export default 1 // </script>", f"BSD {EVIL}")
    return ReviewPage("Report", f"Lead {EVIL}", (("model", EVIL),), "run-1", (f"x: {EVIL}",), "Sorted.",
                      ("tissues", "complete"), (case, plain), TISSUES, viewer, (f"note {EVIL}",))  # fmt: skip


def test_every_text_is_escaped_and_no_script_is_ended_by_one(page):
    parsed = Parsed(review_html(page))
    assert "b" not in {tag for tag, _, _ in parsed.elements}
    assert sum(EVIL in text for text in parsed.texts) >= 7
    settings = json.loads(next(text for attributes, text in parsed.scripts if attributes.get("id") == "settings"))
    assert settings["tissues"][0] == {"name": f"femur{EVIL}", "rgb": [204, 51, 51]}
    assert settings["run"] == "run-1"
    identifiers = [attributes["id"] for _, attributes, _ in parsed.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_pictures_wait_outside_the_page_that_scripts_see(page):
    elements = Parsed(review_html(page)).elements
    pictures = [(attributes["alt"], hidden) for tag, attributes, hidden in elements if tag == "img"]
    assert pictures == [(f"Slices {EVIL}", True), ("Thickness map of knee", True)]


def test_prompts_are_drawn_in_the_colour_and_the_pixels_of_the_figure(page):
    parsed = Parsed(review_html(page))
    assert [attributes["viewbox"] for attributes in parsed.named("svg")] == ["0 0 1400 700"]
    paths = [(one["class"], one.get("stroke"), one["d"]) for one in parsed.named("path")]
    assert ("box", "#3333cc", "M10 21H40V60H10Z") in paths
    assert ("point", "#3333cc", "M10 25h10M15 20v10") in paths  # +
    assert ("point", "#cc3333", "M25 31h10") in paths  # −


def test_the_viewer_and_its_volumes_come_together_with_the_notice(page):
    parsed = Parsed(review_html(page))
    scripts = {attributes.get("id") or attributes.get("class"): text for attributes, text in parsed.scripts}
    assert gzip.decompress(b64decode(scripts["viewer-module"])) == page.viewer.script
    volume = json.loads(scripts["volume"])
    assert volume["shape"] == [12, 10, 4]
    assert np.array(volume["affine"]).shape == (4, 4)
    assert set(gzip.decompress(b64decode(volume["labels"]))) == {0, 2}
    assert any(page.viewer.licence in text for text in parsed.texts)


def test_without_a_viewer_there_is_no_volume_and_no_word_of_it(page):
    text = review_html(replace(page, viewer=None))
    assert "viewer-module" not in text
    assert 'class="volume"' not in text
    assert "<dialog" not in text
    assert Parsed(text).named("img")


def test_the_page_names_no_address_but_those_in_comments(page):
    text = re.sub(r"^\s*//.*$", "", review_html(page), flags=re.MULTILINE)
    assert not re.search(r"https?://|src=\"(?!data:)|<link|@import|url\(", text)


def test_equal_pages_give_equal_bytes(page):
    assert review_html(page) == review_html(page)
