"""Draw the README's pictures: what `msksam demo` makes of its own knee, and its report in a headless Chromium.

python benchmarks/figures.py [assets]
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from msksam_cli.pipeline.demo import DemoOptions, demo_text, run_demo

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from browser import Browser, find_chromium

_WINDOW_PX = (1180, 1180)
_SHOWN_PX = (700, 700)


def main() -> None:
    """Run the demo in a temporary folder and keep the figure of its first case and pictures of its report."""
    assets = Path(sys.argv[1] if len(sys.argv) > 1 else "assets")
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(DemoOptions(Path(folder)))
        print(demo_text(demo))
        run = Path(folder) / "segmentation"
        first = min((run / "figures").glob("*.png"), key=lambda path: path.stem)  # before its map of thickness
        assets.mkdir(exist_ok=True)
        shutil.copyfile(first, assets / "knee.png")
        chromium = find_chromium()
        if chromium is None:
            print("no Chromium is installed: report.png stays as it is")
        else:
            draw_report(chromium, run / "report.html", first.stem, assets / "report.png")


def draw_report(chromium: str, report: Path, case: str, picture: Path) -> None:
    """A case on the page, and beside it the same case in the viewer."""
    with Browser(chromium, *_WINDOW_PX) as page:
        page.open(report)
        page.run(f"document.querySelector('[data-case=\"{case}\"]').focus()")
        page.run(f"document.querySelector('[data-case=\"{case}\"]').scrollIntoView()")
        page.wait("document.querySelector('section.case.current img')?.naturalWidth")
        time.sleep(1.0)
        shown = [page.picture()]
        page.press("v")
        page.wait(f"document.documentElement.dataset.viewer === '{case}'")
        time.sleep(2.0)
        shown.append(page.picture())
    both = Image.new("RGB", (2 * _SHOWN_PX[0] + 10, _SHOWN_PX[1]), "white")
    for number, content in enumerate(shown):
        small = Image.open(io.BytesIO(content)).convert("RGB").resize(_SHOWN_PX, Image.Resampling.LANCZOS)
        both.paste(small, (number * (_SHOWN_PX[0] + 10), 0))
    both.save(picture, optimize=True)


if __name__ == "__main__":
    main()
