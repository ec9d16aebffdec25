"""Each case runs in its own interpreter, because imports are remembered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WORKING = {
    "__init__.py": "",
    "transforms/__init__.py": "",
    "transforms/functional.py": "def resize(*a): return 'real'\ndef to_pil_image(*a): return 'real'\n",
    "ops/__init__.py": "",
    "ops/boxes.py": "def box_area(*a): return 'real'\ndef batched_nms(*a): return 'real'\n",
}
BROKEN = {
    "runtime": "raise RuntimeError('operator torchvision::nms does not exist')\n",
    "missing library": "raise OSError('libtorch.so: cannot open shared object file')\n",
    "half a package": "import torchvision.nothing_here\n",
    "attribute": "import torch\ntorch.no_such_thing\n",
}


def write_torchvision(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / "torchvision" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(code: str, *paths: Path, hide_torchvision: bool = False) -> str:
    start = "import sys; sys.modules['torchvision'] = None\n" if hide_torchvision else ""
    done = subprocess.run(
        [sys.executable, "-c", start + f"import sys; sys.path[:0] = {[str(p) for p in paths]!r}\n" + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


BUILD = """
from msksam_cli.sam.vision_shim import import_modeling
modeling = import_modeling()
print(modeling.MaskDecoder.__module__, [m for m in sys.modules if m.startswith('torchvision') and sys.modules[m]])
"""


def test_classes_are_there_without_torchvision_and_no_stand_in_stays() -> None:
    assert run(BUILD, hide_torchvision=True) == "segment_anything.modeling.mask_decoder []"


@pytest.mark.parametrize("fault", BROKEN)
def test_classes_are_there_beside_a_torchvision_that_breaks_while_imported(tmp_path: Path, fault: str) -> None:
    write_torchvision(tmp_path, WORKING | {"__init__.py": BROKEN[fault]})
    assert run(BUILD, tmp_path).startswith("segment_anything.modeling.mask_decoder")


def test_an_intact_torchvision_is_the_one_used(tmp_path: Path) -> None:
    write_torchvision(tmp_path, WORKING)
    used = "import segment_anything.utils.transforms as t; print(t.resize())"
    assert run("from msksam_cli.sam.vision_shim import import_modeling; import_modeling()\n" + used, tmp_path) == "real"


def test_a_torchvision_that_could_not_be_used_can_still_be_asked_for_later(tmp_path: Path) -> None:
    absent = "from msksam_cli.sam.vision_shim import import_modeling; import_modeling()\n"
    later = "sys.modules.pop('torchvision', None)\nimport torchvision.ops.boxes as b; print(b.box_area())"
    write_torchvision(tmp_path, WORKING)
    assert run(absent + f"sys.path.insert(0, {str(tmp_path)!r})\n" + later, hide_torchvision=True) == "real"
