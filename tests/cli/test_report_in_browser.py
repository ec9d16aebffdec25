"""The report of a run as a reader has it: opened in a headless Chromium, worked with by keys, saved and read again."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.figures import write_overlay
from msksam_cli.io.nifti import form_from_grid, read_label_map, write_label_map, write_volume
from msksam_cli.io.prompt_files import write_prompts
from msksam_cli.io.review_file import EDIT, REJECT, REVIEW_COLUMNS, read_review
from msksam_cli.io.tables import read_csv, write_csv, write_tissue_table
from msksam_cli.io.viewer_bundle import viewer_bundle
from msksam_cli.measure.morphometry import METRICS_COLUMNS, Provenance, measure_tissues
from msksam_cli.measure.qc import QC_COLUMNS, quality_flags
from msksam_cli.pipeline.report import ReportOptions, run_report
from tests.browser import Browser, find_chromium

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")
needs_viewer = pytest.mark.skipif(viewer_bundle() is None, reason="the extra `viewer` (ipyniivue) is not installed")

AFFINE = np.array([[0, 0, -3.0, 20.0], [0.5, 0, 0, -11.0], [0, -0.7, 0, 35.0], [0, 0, 0, 1.0]])
GRID = Grid((48, 40, 9), AFFINE)
TISSUES = TissueTable((Tissue(2, "femur", color="#cc3333"), Tissue(5, "tibia", color="#3399cc")))
CASES = ("knee, left", "lost", "sound", "unsure")  # by name; "lost" is at risk most, then "unsure"
IOU = {"knee, left": 0.8, "lost": 0.9, "sound": 0.95, "unsure": 0.7}
VISIBLE = "[...document.querySelectorAll('section.case:not([hidden])')].map((one) => one.dataset.case)"
CURRENT = "document.querySelector('section.case.current')?.dataset.case ?? ''"
CONTRAST = """(() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const paper = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll('body *:not(script):not(noscript):not(style)')) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility({ visibilityProperty: true })) continue;
    const [one, other] = [light(numbers(getComputedStyle(element).color)), light(paper(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return low;
})()"""
NAMELESS = """[...document.querySelectorAll('button, input, select, summary, a[href], [tabindex="0"]')].filter((one) =>
  !(one.getAttribute('aria-label') || one.labels?.[0]?.textContent.trim() || one.textContent.trim())
).map((one) => one.outerHTML)"""


@dataclass(frozen=True)
class Run:
    """A run folder with its report, and the labels of its cases."""

    folder: Path
    labels: dict[str, LabelMap]

    @property
    def page(self) -> Path:
        return self.folder / "report.html"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four cases whose figures, prompts, volumes and tables were written as `segment` writes them."""
    folder = tmp_path_factory.mktemp("run")
    labels, rows, flags = {}, [], []
    write_tissue_table(folder / "labels.tsv", TISSUES)
    for number, case in enumerate(CASES):
        values = np.zeros(GRID.shape, np.uint8)
        values[8 + number : 24, 9:22, 2:7] = 2
        values[30:40, 20 + number : 33, 3:6] = 0 if case == "lost" else 5
        grey = np.random.default_rng(number).normal(300, 20, GRID.shape) + 40.0 * values
        volume, labels[case] = Volume(grey.astype(np.float32), GRID), LabelMap(values, GRID, TISSUES)
        write_label_map(folder / "labels" / f"{case}.nii.gz", labels[case], form_from_grid(GRID))
        write_volume(folder / "images" / f"{case}.nii.gz", volume, form_from_grid(GRID))
        write_overlay(folder / "figures" / f"{case}.png", volume, labels[case], title=case)
        asked = [Prompt(2, 4, Box((9.0, 8.0, 21.0, 23.0)), Points(((12.0, 15.0), (30.0, 30.0)), (True, False)))]
        write_prompts(folder / "prompts" / f"{case}.json", asked, [0.9], grid=GRID, tissues=TISSUES, provenance={})
        sure = {tissue.index: Provenance(iou_prediction_mean=IOU[case]) for tissue in TISSUES}
        rows += [measure.row(case) for measure in measure_tissues(labels[case], volume, provenance=sure)]
        flags += [flag.row(case) for flag in quality_flags(labels[case])]
    write_csv(folder / "metrics.csv", METRICS_COLUMNS, rows)
    write_csv(folder / "qc.csv", QC_COLUMNS, flags)
    run_report(ReportOptions(folder))
    return Run(folder, labels)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    assert path
    with Browser(path) as opened:
        yield opened


@pytest.fixture
def page(run: Run, browser: Browser) -> Browser:
    """The report, opened by someone who has decided nothing yet."""
    browser.resize(1280, 900)
    browser.open(run.page)
    browser.run("localStorage.clear()")
    browser.events.clear()
    browser.open(run.page)
    return browser


def message(page: Browser) -> str:
    return str(page.run("document.getElementById('message').textContent"))


def show(page: Browser, element: str, value: str) -> None:
    """Type or choose a value in a field."""
    page.run(f"""(() => {{ const field = document.getElementById('{element}'); field.value = '{value}';
        for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind)); }})()""")


def saved(page: Browser, folder: Path) -> Path:
    """review.csv as the page's button saves it."""
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.run("document.getElementById('export').click()")
    path = folder / "review.csv"
    end = time.monotonic() + 20
    while not path.is_file() and time.monotonic() < end:
        time.sleep(0.05)
    return path


def test_it_opens_without_a_complaint_and_asks_for_nothing_else(page: Browser, run: Run) -> None:
    assert page.complaints() == []
    assert page.requested() == [run.page.resolve().as_uri()]
    assert page.run(VISIBLE) == ["lost", "unsure", "knee, left", "sound"]
    assert page.run("document.getElementById('progress').textContent") == "0 of 4 decided"


def test_the_browser_itself_keeps_the_page_from_asking_elsewhere(page: Browser) -> None:
    assert page.run("fetch('https://example.org/').then(() => 'answered', () => 'refused')") == "refused"
    assert any("Content Security Policy" in text for text in page.complaints())


def test_pictures_appear_when_their_case_comes_near(page: Browser) -> None:
    page.resize(1000, 400)
    page.open(Path(page.requested()[0].removeprefix("file://")))
    assert page.run("document.querySelectorAll('section.case:last-of-type img').length") == 0
    page.run("document.querySelector('section.case:last-of-type').scrollIntoView()")
    page.wait("document.querySelector('section.case:last-of-type img')?.naturalWidth > 500")
    assert page.complaints() == []


def test_prompts_lie_over_the_tissue_they_ask_for(page: Browser) -> None:
    page.press("j")
    page.wait("document.querySelector('section.case.current img')?.naturalWidth > 500")
    page.run("document.querySelector('section.case.current svg').scrollIntoView()")
    page.run("scrollBy(0, 300)")
    time.sleep(0.3)
    place = page.run("""(() => { const box = document.querySelector('section.case.current path.box').getBBox();
        const svg = document.querySelector('section.case.current svg'), at = svg.getBoundingClientRect();
        const scale = at.width / svg.viewBox.baseVal.width;
        return [at.x + scale * box.x, at.y + scale * box.y, scale * box.width, scale * box.height]; })()""")
    page.press("p")
    time.sleep(0.2)
    picture = np.asarray(Image.open(io.BytesIO(page.picture())).convert("RGB")).astype(int)
    left, top, width, height = (round(value) for value in place)
    inside = picture[top + 3 : top + height - 3, left + 3 : left + width - 3]
    assert inside.size > 3000
    reddish = inside[..., 0] - inside[..., 2]
    assert (reddish > 15).mean() > 0.9  # the box fits the femur, which is tinted red
    outside = picture[top : top + height, left + width + 8 : left + width + 30]
    assert (outside[..., 0] - outside[..., 2] > 15).mean() < 0.1
    assert page.run("getComputedStyle(document.querySelector('svg.prompts')).display") == "none"


def test_a_review_by_keys_is_saved_and_read_again(page: Browser, run: Run, tmp_path: Path) -> None:
    page.press("j", "r", "e", "a", "a")
    assert message(page) == "sound accepted."
    page.press("u")
    assert (page.run(CURRENT), message(page)) == ("sound", "Undone: sound is undecided.")
    page.press("k", "k", "n")
    page.send("Input.insertText", text='edge "frayed", slice 4')
    page.press("Escape", "k", "j")
    assert page.run(CURRENT) == "unsure"
    assert page.run("document.getElementById('progress').textContent") == "3 of 4 decided"
    path = saved(page, tmp_path)
    assert path.read_text().splitlines()[0].split(",") == list(REVIEW_COLUMNS)
    rows = {row["case"]: row for row in read_csv(path)}
    assert {case: row["decision"] for case, row in rows.items()} == {
        "lost": "reject", "unsure": "edit", "knee, left": "accept", "sound": "",
    }  # fmt: skip
    assert rows["unsure"]["note"] == 'edge "frayed", slice 4'
    assert read_review(path).listed(EDIT, REJECT) == {"lost", "unsure"}
    assert page.complaints() == []


def test_decisions_outlive_the_page_but_not_the_labels_they_were_made_on(page: Browser, run: Run) -> None:
    page.press("j", "a", "r")
    page.open(run.page)
    assert page.run("document.getElementById('progress').textContent") == "2 of 4 decided"
    page.run("""(() => { const key = Object.keys(localStorage)[0], kept = JSON.parse(localStorage[key]);
        kept.lost.labels = 'other'; localStorage[key] = JSON.stringify(kept); })()""")
    page.open(run.page)
    assert page.run("document.getElementById('progress').textContent") == "1 of 4 decided"
    assert "accepted before the labels changed" in page.run("document.querySelector('section.case').textContent")


def test_a_saved_review_can_be_loaded_elsewhere(page: Browser, run: Run, tmp_path: Path) -> None:
    page.press("j", "j", "e")
    path = saved(page, tmp_path)
    page.run("localStorage.clear()")
    page.open(run.page)
    page.send("DOM.enable")
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    field = page.send("DOM.querySelector", nodeId=root, selector="#import")["nodeId"]
    page.send("DOM.setFileInputFiles", nodeId=field, files=[str(path)])
    page.wait("document.getElementById('message').textContent.includes('4 cases are read')")
    assert page.run("[...document.querySelectorAll('#overview td:last-child')].map((one) => one.textContent)") == [
        "", "edit", "", "",
    ]  # fmt: skip


def test_filters_leave_what_fits_and_keys_go_through_that_alone(page: Browser) -> None:
    show(page, "filter-status", "empty")
    assert page.run(VISIBLE) == ["lost"]
    show(page, "filter-status", "")
    show(page, "filter-flag", "-")
    assert page.run(VISIBLE) == ["unsure", "knee, left", "sound"]
    show(page, "filter-text", "S")
    assert page.run(VISIBLE) == ["unsure", "sound"]
    page.press("j", "j")
    assert page.run(CURRENT) == "sound"
    page.press("j")
    assert message(page) == "This is the last case."
    page.press("k", "e")
    show(page, "filter-decision", "undecided")
    assert page.run(VISIBLE) == ["sound"]
    assert page.run("document.getElementById('progress').textContent") == "1 of 4 decided; 1 shown"
    page.run("document.getElementById('clear').click()")
    assert len(page.run(VISIBLE)) == len(CASES)


def test_letters_typed_into_fields_or_with_keys_switched_off_decide_nothing(page: Browser) -> None:
    page.press("j", "/")
    assert page.run("document.activeElement.id") == "filter-text"
    page.press("a")
    page.press("Escape")
    page.run("document.getElementById('use-keys').click()")
    page.press("a")
    assert page.run("document.getElementById('progress').textContent").startswith("0 of 4 decided")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_stand_out_and_controls_have_names(page: Browser, *, dark: bool) -> None:
    page.resize(1280, 900, dark=dark)
    page.press("j", "a", "e", "r")
    page.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.run(CONTRAST) == []
    assert page.run(NAMELESS) == []
    headings = page.run(
        "[...document.querySelectorAll('main h1, main h2, main h3, header h1')].map((one) => one.tagName)"
    )
    assert headings == ["H1", *["H2"] * (len(headings) - 1)]


def test_focus_is_seen_and_not_covered(page: Browser) -> None:
    for _ in range(25):
        page.send("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        page.send("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        outline, width, covered = page.run("""(() => { const one = document.activeElement.closest('label.button')
            ?? document.activeElement, style = getComputedStyle(one), at = one.getBoundingClientRect();
            const top = document.elementFromPoint(at.x + at.width / 2, at.y + Math.min(at.height, 20) / 2);
            const covered = !(one.contains(top) || top?.contains(one));
            return [style.outlineStyle, parseFloat(style.outlineWidth), covered]; })()""")
        assert (outline, covered) == ("solid", False)
        assert width >= 2


def test_a_narrow_window_needs_no_sideways_scrolling(page: Browser) -> None:
    page.resize(400, 800)
    page.press("?", "j")
    assert page.run("document.documentElement.scrollWidth") == 400
    assert page.run("document.querySelector('section.case.current').getBoundingClientRect().width") > 350


def test_paper_shows_every_case_and_no_control(page: Browser) -> None:
    page.send("Emulation.setEmulatedMedia", media="print")
    page.run("dispatchEvent(new Event('beforeprint'))")
    page.wait("[...document.querySelectorAll('section.case')].every((one) => one.querySelector('img'))")
    assert page.run("document.getElementById('controls').checkVisibility()") is False
    assert page.send("Page.printToPDF", printBackground=True)["data"].startswith("JVBER")


@needs_viewer
def test_three_planes_show_the_labels_where_they_are(page: Browser, run: Run) -> None:
    page.press("j", "j", "v")
    page.wait("document.documentElement.dataset.viewer === 'unsure'")
    labels = run.labels["unsure"]
    counts = page.run("[...document.querySelectorAll('#viewer input[data-axis]')].map((one) => Number(one.max) + 1)")
    assert counts == [9, 48, 40]
    for voxel, name in (((15, 15, 4), "femur"), ((35, 28, 4), "tibia"), ((45, 3, 1), "no label")):
        x, y, z = 8 - voxel[2], voxel[0], 39 - voxel[1]  # places along R, A and S
        slide(page, x, y, z)
        where = page.run("document.getElementById('where').textContent")
        mm = labels.grid.to_world_mm(voxel)
        letters = [f"{pair[int(mm[n] > 0)]} {abs(mm[n]):.1f}" for n, pair in enumerate(("LR", "PA", "IS"))]
        assert where == f"{', '.join(letters)} mm: {name}"
        assert name == {0: "no label", 2: "femur", 5: "tibia"}[int(labels.values[voxel])]
    time.sleep(0.5)
    assert page.complaints() == []
    assert page.requested() == [run.page.resolve().as_uri()]


def test_the_labels_of_the_run_are_those_the_page_was_made_of(run: Run) -> None:
    for case in CASES:
        read = read_label_map(run.folder / "labels" / f"{case}.nii.gz", TISSUES)
        np.testing.assert_array_equal(read.values, run.labels[case].values)


@needs_viewer
def test_the_viewer_paints_both_tissues_and_follows_to_the_next_case(page: Browser, run: Run) -> None:
    page.press("j", "j", "v")
    page.wait("document.documentElement.dataset.viewer === 'unsure'")
    for place, name in ((0, "femur"), (2, "tibia")):
        slide(page, 4, 30, 15)
        time.sleep(0.7)
        shown = canvas(page)
        tinted = shown[..., place] - shown[..., 2 - place] > 25
        assert tinted.sum() > 2000
        rows, columns = np.nonzero(ndimage.binary_erosion(tinted, iterations=4))
        click(page, int(columns[len(columns) // 2]), int(rows[len(rows) // 2]))
        page.wait(f"document.getElementById('where').textContent.endsWith(': {name}')", 10)  # niivue's own answer
    page.run("document.getElementById('opacity').value = 0")
    page.run("document.getElementById('opacity').dispatchEvent(new Event('input'))")
    time.sleep(0.5)
    grey = canvas(page)
    assert (np.abs(grey[..., 0] - grey[..., 2]) > 25).sum() == 0
    page.press("k")
    page.wait("document.documentElement.dataset.viewer === 'lost'")
    assert page.run("document.getElementById('viewer-title').textContent") == "lost"
    page.press("Escape")
    assert page.complaints() == []


def slide(page: Browser, x: int, y: int, z: int) -> None:
    """Move the viewer's sliders to places along R, A and S."""
    page.run(f"""[...document.querySelectorAll('#viewer input[data-axis]')].forEach((one, axis) => {{
        one.value = [{x}, {y}, {z}][axis]; one.dispatchEvent(new Event('input')); }})""")


def click(page: Browser, x_px: int, y_px: int) -> None:
    """Click on a pixel of the viewer's planes."""
    left, top = page.run("""(() => { const at = document.querySelector('#viewer canvas').getBoundingClientRect();
        return [Math.round(at.left), Math.round(at.top)]; })()""")
    for kind in ("mousePressed", "mouseReleased"):
        page.send("Input.dispatchMouseEvent", type=kind, x=left + x_px, y=top + y_px, button="left", clickCount=1)


def canvas(page: Browser) -> np.ndarray:
    """Pixels (height, width, 3) of the viewer's planes as the window shows them; black where focus draws its frame."""
    place = page.run("""(() => { const at = document.querySelector('#viewer canvas').getBoundingClientRect();
        return [at.left, at.top, at.right, at.bottom]; })()""")
    left, top, right, bottom = (round(value) for value in place)
    shown = np.asarray(Image.open(io.BytesIO(page.picture())).convert("RGB")).astype(int)[top:bottom, left:right]
    return np.pad(shown[4:-4, 4:-4], [(4, 4), (4, 4), (0, 0)])
