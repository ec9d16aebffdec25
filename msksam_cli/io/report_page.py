"""One self-contained HTML page: facts, tables and pictures, nothing loaded from anywhere else.

Plain HTML that reads well without styles, in a narrow window, in dark mode, on paper and to a screen reader: headings
in order, captions and scopes on tables, a text for every picture, colour never the only sign.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from msksam_cli.io.atomic import write_text

_STYLE = Path(__file__).with_suffix(".css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first cell of a row is its heading.

    Columns whose known cells are all numbers are set to the right.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """An image in the page: PNG or JPEG bytes, what it shows for those who cannot see it, and a caption."""

    content: bytes
    description: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with doubts, pictures and tables under it, in that order."""

    title: str
    doubts: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole report: its title, one sentence, facts by name, and sections."""

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


def write_page(path: Path, page: Page) -> None:
    """Write a page; equal pages give equal bytes.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    write_text(path, page_html(page))


def page_html(page: Page) -> str:
    """The page as HTML; every text is escaped."""
    links = "".join(f'<li><a href="#s{n}">{escape(part.title)}</a></li>' for n, part in enumerate(page.sections, 1))
    sections = "\n".join(_section_html(number, section) for number, section in enumerate(page.sections, 1))
    return (
        f"{opening_html(page.title)}<header>\n"
        f'<h1>{escape(page.title)}</h1>\n<p class="lead">{escape(page.lead)}</p>\n{facts_html(page.facts)}</header>\n'
        + (f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n' if len(page.sections) > 2 else "")
        + f"<main>\n{sections}\n</main>\n</body>\n</html>\n"
    )


def opening_html(title: str, style: str = "", policy: str = _POLICY) -> str:
    """What stands before a page's own content.

    Args:
        title: of the page.
        style: what it adds to the common style.
        policy: what a browser lets the page do (Content Security Policy, W3C); nothing may ever come from elsewhere.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}{style}</style>\n</head>\n<body>\n"
    )


def facts_html(facts: Sequence[tuple[str, str]]) -> str:
    """Names and values as a list of definitions, "" without any."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f"<dl>{items}</dl>\n" if items else ""


def _section_html(number: int, section: Section) -> str:
    parts = [
        f'<h2 id="s{number}-title">{escape(section.title)}</h2>',
        doubts_html(section.doubts),
        *(picture_html(picture) for picture in section.pictures),
        *(table_html(table) for table in section.tables),
    ]
    body = "\n".join(part for part in parts if part)
    return f'<section id="s{number}" aria-labelledby="s{number}-title">\n{body}\n</section>'


def doubts_html(doubts: Sequence[str]) -> str:
    """Sentences of doubt as a list, "" without any."""
    items = "".join(f"<li>{escape(text)}</li>" for text in doubts)
    return f'<ul class="doubts">{items}</ul>' if items else ""


def picture_html(picture: Picture) -> str:
    """A picture with its caption, decoded when it comes into view."""
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f"<figure>{image_html(picture)}{caption}</figure>"


def image_html(picture: Picture) -> str:
    """The picture alone."""
    kind = "png" if picture.content.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(picture.content).decode('ascii')}"
    return f'<img src="{source}" alt="{escape(picture.description)}" loading="lazy" decoding="async">'


def table_html(table: Table) -> str:
    """A table that can be scrolled sideways where it is wider than the window."""
    numeric = [_is_numeric([row[column] for row in table.rows]) for column in range(len(table.columns))]
    classes = [' class="number"' if right else "" for right in numeric]
    head = "".join(
        f'<th scope="col"{style}>{escape(name)}</th>' for name, style in zip(table.columns, classes, strict=True)
    )
    body = "\n".join(_row_html(row, classes) for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    opening = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption or "Table")}">'
    return f"{opening}<table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>"


def _row_html(row: Sequence[str], classes: Sequence[str]) -> str:
    heading, *cells = (escape(text) for text in row)
    others = "".join(f"<td{style}>{text}</td>" for text, style in zip(cells, classes[1:], strict=True))
    return f'<tr><th scope="row"{classes[0]}>{heading}</th>{others}</tr>'


def _is_numeric(cells: Sequence[str]) -> bool:
    known = [text for text in cells if text]
    return bool(known) and all(text.lstrip("-+−").replace(".", "", 1).rstrip(" %").isdecimal() for text in known)
