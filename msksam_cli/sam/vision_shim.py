"""segment-anything's model classes, with or without a working torchvision.

`import segment_anything` pulls in torchvision for four small functions that msksam never calls. A torchvision that
is absent, or that was built for another torch and fails while being imported, must not stop the network from being
built; so the real one is tried first, and a stand-in lives in `sys.modules` only while segment-anything is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_USED_MODULES = ("torchvision.transforms.functional", "torchvision.ops.boxes")
_IMPORT_FAILURES = (ImportError, RuntimeError, OSError, AttributeError)


@cache
def import_modeling() -> ModuleType:
    """The module `segment_anything.modeling`.

    Raises:
        ImportError: segment-anything itself is missing.
    """
    if "segment_anything" in sys.modules or torchvision_works():
        return importlib.import_module("segment_anything.modeling")
    with stand_in_torchvision():
        return importlib.import_module("segment_anything.modeling")


def torchvision_works() -> bool:
    """Whether the parts of torchvision that segment-anything imports can be imported."""
    try:
        for name in _USED_MODULES:
            importlib.import_module(name)
    except _IMPORT_FAILURES:
        return False
    return True


@contextlib.contextmanager
def stand_in_torchvision() -> Iterator[None]:
    """Put the four functions where segment-anything looks for them, and leave `sys.modules` as it was."""
    hidden = _take_torchvision_modules()
    transforms = _module("torchvision.transforms.functional", resize=_resize, to_pil_image=_to_pil_image)
    boxes = _module("torchvision.ops.boxes", box_area=_box_area, batched_nms=_refuse_nms)
    parents = [_module(name) for name in ("torchvision", "torchvision.transforms", "torchvision.ops")]
    sys.modules.update({module.__name__: module for module in (*parents, transforms, boxes)})
    try:
        yield
    finally:
        _take_torchvision_modules()
        sys.modules.update(hidden)


def _take_torchvision_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]
    return {name: sys.modules.pop(name) for name in names}


def _module(name: str, **functions: Any) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    vars(module).update(functions)
    return module


def _to_pil_image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels)


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    rows, columns = size
    return image.resize((columns, rows), Image.Resampling.BILINEAR)


def _box_area(boxes: Any) -> Any:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _refuse_nms(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError("automatic mask generation needs a working torchvision")
