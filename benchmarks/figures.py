"""Draw the README's picture: what `msksam demo` makes of its own knee.

python benchmarks/figures.py [assets]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from msksam_cli.pipeline.demo import DemoOptions, demo_text, run_demo


def main() -> None:
    """Run the demo in a temporary folder and keep the figure of its first case."""
    assets = Path(sys.argv[1] if len(sys.argv) > 1 else "assets")
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(DemoOptions(Path(folder)))
        print(demo_text(demo))
        first = sorted((Path(folder) / "segmentation" / "figures").glob("*.png"))[0]
        assets.mkdir(exist_ok=True)
        shutil.copyfile(first, assets / "knee.png")


if __name__ == "__main__":
    main()
