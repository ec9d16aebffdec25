import base64
import re
from html.parser import HTMLParser

from msksam_cli.io.report_page import Page, Picture, Section, Table, page_html, write_page

PNG = b"\x89PNG\r\n\x1a\n and so on"
VOID = {"meta", "img", "link", "br"}


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.images, self.ids, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def page(**changes):
    table = Table(("tissue", "volume", "reason"), (("femur", "12.5", ""), ("<b>tibia</b>", "", "a & b")), "Tissues.")
    section = Section("case <1>", ('too "small"',), (Picture(PNG, "Slices of 'case'", "A caption"),), (table,))
    fields = {"title": "Report", "lead": "One sentence.", "facts": (("model", "small<1"),), "sections": (section,)}
    return Page(**(fields | changes))


def parsed(text):
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    return parser


def test_tags_are_balanced_and_every_text_is_escaped():
    parser = parsed(page_html(page(sections=page().sections * 4)))
    text = " ".join(parser.texts)
    for expected in ("<b>tibia</b>", "a & b", "case <1>", 'too "small"', "small<1", "A caption"):
        assert expected in text
    assert len(parser.ids) == len(set(parser.ids))


def test_the_page_loads_nothing_from_elsewhere():
    text = page_html(page())
    assert not re.search(r"(?:https?:)?//|<script|<link|@import|url\(", text)


def test_a_picture_is_embedded_whole_with_words_for_those_who_cannot_see_it():
    (image,) = parsed(page_html(page())).images
    assert image["alt"] == "Slices of 'case'"
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PNG
    jpeg = page(sections=(Section("s", pictures=(Picture(b"\xff\xd8", "d"),)),))
    assert 'src="data:image/jpeg;base64,' in page_html(jpeg)


def test_only_columns_of_numbers_are_set_to_the_right():
    text = page_html(page())
    assert '<th scope="col" class="number">volume</th>' in text
    assert '<th scope="col">reason</th>' in text
    assert '<td class="number">12.5</td><td></td>' in text


def test_equal_pages_give_equal_bytes(tmp_path):
    write_page(tmp_path / "a.html", page())
    write_page(tmp_path / "b.html", page())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
