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

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6672; --line: #d5dae0; --paper: #ffffff;
  --band: #f4f6f8; --doubt: #8a4b00; --doubt-paper: #fff4e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebee; --soft: #a3adb8; --line: #3a424b; --paper: #14181c;
  --band: #1d2329; --doubt: #ffc46b; --doubt-paper: #33270f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
p.lead { margin: 0 0 1rem; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { background: var(--band); white-space: nowrap; }
tbody th { font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; }
ul.doubts { list-style: none; margin: .75rem 0; padding: 0; }
ul.doubts li { background: var(--doubt-paper); border-left: .3rem solid var(--doubt); padding: .35rem .75rem;
  margin: .3rem 0; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; border-radius: .3rem; }
figcaption { color: var(--soft); font-size: .9rem; }
nav ul { columns: 16rem; padding-left: 1.1rem; } a { color: inherit; }
@media print { body { max-width: none; padding: 0; } section { break-inside: avoid; } }
"""


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
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in page.facts)
    links = "".join(f'<li><a href="#s{n}">{escape(part.title)}</a></li>' for n, part in enumerate(page.sections, 1))
    sections = "\n".join(_section_html(number, section) for number, section in enumerate(page.sections, 1))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n"
        f'<h1>{escape(page.title)}</h1>\n<p class="lead">{escape(page.lead)}</p>\n'
        + (f"<dl>{facts}</dl>\n" if facts else "")
        + "</header>\n"
        + (f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n' if len(page.sections) > 2 else "")
        + f"<main>\n{sections}\n</main>\n</body>\n</html>\n"
    )


def _section_html(number: int, section: Section) -> str:
    doubts = "".join(f"<li>{escape(text)}</li>" for text in section.doubts)
    parts = [
        f'<h2 id="s{number}-title">{escape(section.title)}</h2>',
        f'<ul class="doubts">{doubts}</ul>' if doubts else "",
        *(_picture_html(picture) for picture in section.pictures),
        *(_table_html(table) for table in section.tables),
    ]
    body = "\n".join(part for part in parts if part)
    return f'<section id="s{number}" aria-labelledby="s{number}-title">\n{body}\n</section>'


def _picture_html(picture: Picture) -> str:
    kind = "png" if picture.content.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(picture.content).decode('ascii')}"
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<figure><img src="{source}" alt="{escape(picture.description)}">{caption}</figure>'


def _table_html(table: Table) -> str:
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
