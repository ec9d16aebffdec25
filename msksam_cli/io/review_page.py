"""The page on which a run is reviewed, case by case, with everything it shows inside it.

Pictures stand in `<noscript>`: a browser without scripts shows them all at once, the page's script takes each out when
its case comes near the window, so that hundreds of cases cost nothing before they are looked at. The viewer and its
volumes are packed and wait in `<script>` elements of types no browser runs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.io.figure_layout import Mark
from msksam_cli.io.preview import Preview
from msksam_cli.io.report_page import (
    Picture,
    Table,
    doubts_html,
    facts_html,
    image_html,
    opening_html,
    picture_html,
    table_html,
)
from msksam_cli.io.review_file import DECISIONS, REVIEW_COLUMNS
from msksam_cli.io.viewer_bundle import ViewerBundle

_HERE = Path(__file__).with_name("review_page")
_VIEWER = Path(__file__).with_name("review_viewer.js")
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:; "
    "connect-src data: blob:"
)


class Size(NamedTuple):
    """Width and height of a picture in pixels."""

    width_px: int
    height_px: int


@dataclass(frozen=True, eq=False)
class Overlay:
    """The figure of a case, its size before it was made smaller, and the prompts in pixels of that size."""

    picture: Picture
    size: Size
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, eq=False)
class ReviewCase:
    """One case as the page shows it.

    Attributes:
        name: of the case.
        rank: why it stands where it stands, in words.
        cells: of its row in the overview, after its name.
        statuses: kinds of status its tissues have, for the filter.
        flags: kinds of doubt, for the filter.
        doubts: what speaks against its labels, as sentences.
        remarks: what only tells about the scan, folded away.
        overlay: labels on slices, None when there is no figure.
        maps: further pictures, such as thickness maps.
        tables: of its tissues.
        preview: greys and labels for the viewer, None for a case without.
        labels_sha256: hash of its labels, so that a decision is not taken for one on other labels; "" when unknown.
    """

    name: str
    rank: str
    cells: tuple[str, ...]
    statuses: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    overlay: Overlay | None = None
    maps: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    preview: Preview | None = None
    labels_sha256: str = ""


@dataclass(frozen=True, eq=False)
class ReviewPage:
    """A run for review.

    Attributes:
        title: of the page.
        lead: one sentence.
        facts: names and values.
        run_id: decisions are kept under this name in the browser.
        refused: inputs that were not segmented, with reasons.
        order: how the cases are sorted, in words.
        columns: of the overview, between the case and its decision.
        cases: in order.
        tissues: the page's table; previews count by it.
        viewer: what shows previews, None for a page without.
        notes: what the page lacks and why.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    run_id: str
    refused: tuple[str, ...]
    order: str
    columns: tuple[str, ...]
    cases: tuple[ReviewCase, ...]
    tissues: TissueTable
    viewer: ViewerBundle | None = None
    notes: tuple[str, ...] = ()


def review_html(page: ReviewPage) -> str:
    """The page as HTML; every text is escaped."""
    style = _HERE.with_suffix(".css").read_text(encoding="utf-8")
    script = _HERE.with_suffix(".js").read_text(encoding="utf-8")
    settings = {
        "run": page.run_id,
        "decisions": DECISIONS,
        "columns": REVIEW_COLUMNS,
        "tissues": [_tissue(one) for one in page.tissues],
    }
    return "".join(
        (
            opening_html(page.title, style, _POLICY),
            '<a class="skip" href="#cases">Skip to the cases</a>\n<header>\n',
            f'<h1>{escape(page.title)}</h1>\n<p class="lead">{escape(page.lead)}</p>\n',
            _folded_html("How it was made", facts_html(page.facts)),
            doubts_html(page.notes),
            "</header>\n",
            _controls_html(),
            "<main>\n",
            _refused_html(page.refused),
            _overview_html(page),
            *(_case_html(number, case, page) for number, case in enumerate(page.cases, start=1)),
            "</main>\n",
            _viewer_html(page.viewer),
            _data_html("settings", settings),
            f"<script>\n{_VIEWER.read_text(encoding='utf-8')}</script>\n" if page.viewer else "",
            f"<script>\n{script}</script>\n</body>\n</html>\n",
        )
    )


def _tissue(tissue: Tissue) -> dict[str, object]:
    return {"name": tissue.name, "rgb": list(tissue.rgb)}


def _data_html(name: str, value: Mapping[str, object], kind: str = "id") -> str:
    """Values for the page's script; `<` is written so that no text can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" {kind}="{name}">{text}</script>\n'


def _controls_html() -> str:
    """Filters and what concerns all cases; useless without scripts and hidden until one runs."""
    choices = "".join(f'<option value="{name}">{name}</option>' for name in (*DECISIONS, "undecided"))
    return f"""<form id="controls" class="controls" role="search" aria-label="Filter and review" hidden>
<div class="line">
<label>Text <input id="filter-text" type="search" autocomplete="off" spellcheck="false"></label>
<label>Status <select id="filter-status"><option value="">any</option></select></label>
<label>Doubt <select id="filter-flag"><option value="">any</option><option value="-">none</option></select></label>
<label>Decision <select id="filter-decision"><option value="">any</option>{choices}</select></label>
<button type="button" id="clear">Show all</button>
</div>
<div class="line">
<span id="progress" role="status"></span>
<button type="button" id="export">Save review.csv</button>
<label class="button">Load review.csv <input id="import" type="file" accept=".csv,text/csv"></label>
<button type="button" id="print">Print</button>
<label><input type="checkbox" id="show-prompts" checked> prompts</label>
<label><input type="checkbox" id="use-keys" checked> single keys</label>
</div>
<div class="line"><details id="help"><summary>Keys</summary><dl class="keys">
<dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>next and previous case</dd>
<dt><kbd>a</kbd> <kbd>e</kbd> <kbd>r</kbd></dt><dd>accept, edit, reject, and on to the next case</dd>
<dt><kbd>u</kbd></dt><dd>undo the last decision and go back to its case</dd>
<dt><kbd>n</kbd></dt><dd>note on the case; <kbd>Esc</kbd> leaves it</dd>
<dt><kbd>v</kbd></dt><dd>three planes of the case, where the page carries them; <kbd>Esc</kbd> closes them</dd>
<dt><kbd>p</kbd></dt><dd>show or hide prompts: dashed boxes; + inside and − outside the tissue</dd>
<dt><kbd>/</kbd> <kbd>?</kbd></dt><dd>text to filter by; this list</dd>
</dl></details>
<span id="message" role="status"></span></div>
</form>
"""


def _folded_html(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n{content}</details>\n" if content else ""


def _refused_html(refused: Sequence[str]) -> str:
    if not refused:
        return ""
    title = '<h2 id="refused-title">Not segmented</h2>'
    return f'<section aria-labelledby="refused-title">\n{title}\n{doubts_html(refused)}\n</section>\n'


def _overview_html(page: ReviewPage) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("case", *page.columns, "decision"))
    rows = "\n".join(
        f'<tr><th scope="row"><a href="#c{number}">{escape(case.name)}</a></th>'
        + "".join(f'<td class="number">{escape(cell)}</td>' for cell in case.cells)
        + "<td></td></tr>"
        for number, case in enumerate(page.cases, start=1)
    )
    return (
        '<section id="cases" aria-labelledby="cases-title">\n<h2 id="cases-title">Cases</h2>\n'
        '<div class="scroll tall" tabindex="0" role="region" aria-label="Cases">'
        f'<table id="overview"><caption>{escape(page.order)}</caption><thead><tr>{head}</tr></thead><tbody>\n{rows}\n'
        "</tbody></table></div>\n</section>\n"
    )


def _case_html(number: int, case: ReviewCase, page: ReviewPage) -> str:
    name = escape(case.name)
    parts = [
        f'<section class="case" id="c{number}" tabindex="-1" aria-labelledby="c{number}-title" data-case="{name}"'
        f' data-statuses="{escape(" ".join(case.statuses))}" data-flags="{escape(" ".join(case.flags))}"'
        f' data-labels="{escape(case.labels_sha256)}">',
        f'<h2 id="c{number}-title">{name}</h2>\n<p class="rank">{number} of {len(page.cases)}. {escape(case.rank)}</p>',
        doubts_html(case.doubts),
        _overlay_html(case.overlay, page.tissues) if case.overlay else "",
        *(f"<noscript>{picture_html(picture)}</noscript>" for picture in case.maps),
        *(table_html(table) for table in case.tables),
        _folded_html(f"{len(case.remarks)} about the field of view", doubts_html(case.remarks)),
        _preview_html(case.preview) if case.preview and page.viewer else "",
        "</section>\n",
    ]
    return "\n".join(part for part in parts if part)


def _overlay_html(overlay: Overlay, tissues: TissueTable) -> str:
    """The figure with its prompts over it; the place is kept free until the picture is there."""
    width, height = overlay.size
    marks = _marks_svg(overlay, tissues)
    asked = f" {len(overlay.marks)} prompts are drawn over it." if overlay.marks else ""
    return (
        f'<figure><div class="overlay" style="aspect-ratio:{width}/{height}"><noscript>{image_html(overlay.picture)}'
        f"</noscript>{marks}</div>\n<figcaption>{escape(overlay.picture.caption + asked)}</figcaption></figure>"
    )


def _marks_svg(overlay: Overlay, tissues: TissueTable) -> str:
    """Boxes, and + and − for points, one path per tissue and kind."""
    paths = []
    for tissue in tissues:
        marks = [mark for mark in overlay.marks if mark.tissue_index == tissue.index]
        boxes = "".join(_box_path(mark.box) for mark in marks if mark.box)
        points = "".join(_point_path(*point) for mark in marks for point in mark.points)
        if boxes:
            paths.append(f'<path class="box" stroke="{tissue.color}" d="{boxes}"/>')
        if points:
            paths.append(f'<path class="halo" d="{points}"/><path class="point" stroke="{tissue.color}" d="{points}"/>')
    if not paths:
        return ""
    width, height = overlay.size
    return f'<svg class="prompts" viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(paths)}</svg>'


def _box_path(box: tuple[float, float, float, float]) -> str:
    left, top, right, bottom = (round(value) for value in box)
    return f"M{left} {top}H{right}V{bottom}H{left}Z"


def _point_path(x_px: float, y_px: float, is_foreground: bool) -> str:
    x, y = round(x_px), round(y_px)
    return f"M{x - 5} {y}h10" + (f"M{x} {y - 5}v10" if is_foreground else "")


def _preview_html(shown: Preview) -> str:
    values = {
        "shape": list(shown.grid.shape),
        "affine": [[round(float(value), 6) for value in row] for row in shown.grid.affine],
        "columns": shown.columns,
        "tile": list(shown.tile_px),
        "jpeg": base64.b64encode(shown.jpeg).decode("ascii"),
        "labels": base64.b64encode(shown.labels_gzip).decode("ascii"),
    }
    return _data_html("volume", values, "class")


def _viewer_html(viewer: ViewerBundle | None) -> str:
    if viewer is None:
        return ""
    sliders = "".join(
        f'<label>{plane} <input type="range" min="0" value="0" step="1" data-axis="{axis}"><output></output></label>'
        for axis, plane in enumerate(("sagittal", "coronal", "axial"))
    )
    return (
        '<dialog id="viewer" aria-labelledby="viewer-title"><div class="line"><h2 id="viewer-title">Viewer</h2>'
        '<button type="button" id="viewer-close">Close</button></div>\n<div id="viewer-canvas"></div>\n'
        f'<div class="line">{sliders}<label>labels '
        '<input type="range" min="0" max="100" value="35" id="opacity"></label></div>\n'
        '<p id="where" role="status"></p></dialog>\n'
        f"<footer><details><summary>Licence of the viewer</summary><p>This page carries {escape(viewer.name)}, which "
        f"holds niivue.</p><pre>{escape(viewer.licence)}</pre></details></footer>\n"
        f'<script type="text/plain" id="viewer-module">{viewer.packed}</script>\n'
    )
