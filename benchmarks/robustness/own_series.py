"""Crafted series that the zoo of failures does not have, made with the generator of the tests.

Each case writes a folder and says what must become of it: how many volumes are accepted, and with which voxels; none
means that everything in it is refused or skipped.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, generate_uid

from msksam_cli.core.volume import Volume

_TESTS = Path(__file__).resolve().parents[2] / "tests" / "unit"


def _generator() -> Any:
    specification = importlib.util.spec_from_file_location("msksam_synthetic_series", _TESTS / "conftest.py")
    if specification is None or specification.loader is None:
        raise SystemExit("the tests are not beside the benchmarks")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


_module = _generator()
Series = _module.SyntheticSeries


@dataclass(frozen=True)
class Crafted:
    """A case: its folder, the series whose voxels must come back, one per volume, and the outcome in a word."""

    name: str
    truths: tuple[Any, ...]
    outcome: str


def _set(**tags: Any) -> Callable[[Any, int], None]:
    def edit(ds: Any, index: int) -> None:
        del index
        for name, value in tags.items():
            setattr(ds, name, value)

    return edit


def _moved(**by_index: float) -> Callable[[Any, int], None]:
    """Slices moved along the normal, by so many slice spacings: `i2=0.05`."""

    def edit(ds: Any, index: int) -> None:
        shift = by_index.get(f"i{index}", 0.0)
        ds.ImagePositionPatient = [f"{x:.6f}" for x in Series().position_mm(index + shift)]

    return edit


def _turned(index_turned: int, radians: float) -> Callable[[Any, int], None]:
    def edit(ds: Any, index: int) -> None:
        if index == index_turned:
            first, second = Series().directions[:, 0], Series().directions[:, 1]
            turned = np.cos(radians) * first + np.sin(radians) * second
            other = np.cos(radians) * second - np.sin(radians) * first
            ds.ImageOrientationPatient = [f"{x:.9f}" for x in (*turned, *other)]

    return edit


def _only(index_changed: int, **tags: Any) -> Callable[[Any, int], None]:
    def edit(ds: Any, index: int) -> None:
        if index == index_changed:
            _set(**tags)(ds, index)

    return edit


def _shuffled_numbers(ds: Any, index: int) -> None:
    ds.InstanceNumber = random.Random(index).randrange(1000)
    ds.SliceLocation = random.Random(index + 50).random()


EDITS: dict[str, tuple[str, Callable[[Any, int], None]]] = {
    "gap of 1 %": ("accept", _moved(i3=0.01, i4=0.01, i5=0.01)),
    "gap of 7 %": ("refuse", _moved(i3=0.07, i4=0.07, i5=0.07)),
    "one slice 10 % off": ("refuse", _moved(i2=0.10)),
    "orientation off by 0.003 in one slice": ("accept", _turned(2, 0.003)),
    "instance numbers and locations at random": ("accept", _shuffled_numbers),
    "slope 0": ("refuse", _set(RescaleSlope=0, RescaleIntercept=5)),
    "slope not a number": ("refuse", _set(RescaleSlope="nan", RescaleIntercept=5)),
    "pixels of one slice missing": ("refuse", _only(3, PixelData=b"")),
    "pixels of one slice cut": ("refuse", _only(3, PixelData=b"\0" * 9)),
    "another pixel spacing in one slice": ("refuse", _only(3, PixelSpacing=[0.6, 0.7])),
    "negative pixel spacing": ("refuse", _set(PixelSpacing=[-0.5, 0.7])),
    "row and column direction equal": ("refuse", _set(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])),
    "directions twice as long": ("refuse", _set(ImageOrientationPatient=[2, 0, 0, 0, 2, 0])),
    "position not finite": ("refuse", _only(2, ImagePositionPatient=["1e400", "0", "0"])),
    "colour": ("skip", _set(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)),
    "32 bits declared": ("refuse", _set(BitsAllocated=32, BitsStored=32, HighBit=31)),
    "frames declared that are not there": ("refuse", _set(NumberOfFrames=500)),
    "an unknown transfer syntax": ("refuse", lambda ds, index: setattr(ds.file_meta, "TransferSyntaxUID", "1.2.3.4")),
}


def write_cases(folder: Path) -> list[Crafted]:
    """Write every case below `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about the values that are wrong on purpose
        return [*_edited(folder), *_others(folder)]


def _edited(folder: Path) -> Iterator[Crafted]:
    for name, (outcome, edit) in EDITS.items():
        series = Series()
        series.write(folder / name, edit)
        yield Crafted(name, (series,) if outcome == "accept" else (), outcome)


def _others(folder: Path) -> Iterator[Crafted]:
    four = Series(slices=4)
    four.write(folder / "four slices")
    yield Crafted("four slices", (four,), "accept")
    Series(slices=3).write(folder / "three slices")
    yield Crafted("three slices", (), "skip")
    two = Series(series_uid="1.2.3.1"), Series(series_uid="1.2.3.2")
    two[1].voxels = two[1].voxels[::-1].copy()
    for number, series in enumerate(two):  # the same numbers and descriptions, in one folder
        series.write(folder / "two patients", _set(PatientID=f"P{number}"), name=f"{number}-{{}}".format)
    yield Crafted("two patients", two, "accept")
    same = generate_uid()
    Series().write(folder / "one UID for two images", _set(SOPInstanceUID=same))
    yield Crafted("one UID for two images", (), "refuse")
    twice = Series()
    for copy in "ab":
        edit = lambda ds, index: setattr(ds, "SOPInstanceUID", f"1.2.3.{index}")  # noqa: E731
        twice.write(folder / "every file twice", _meta_too(edit), name=f"{copy}{{}}".format)
    yield Crafted("every file twice", (twice,), "accept")
    stacks = Series()
    stacks.write(folder / "two stacks in one series", indices=range(4))
    Series(origin_mm=(300.0, 11.0, 35.0)).write(
        folder / "two stacks in one series", indices=range(4), name="b{}".format
    )
    yield Crafted("two stacks in one series", (), "refuse")
    Series().write(folder / "every position twice, as over time")
    Series().write(folder / "every position twice, as over time", name="b{}".format)
    yield Crafted("every position twice, as over time", (), "refuse")
    big = Series(syntax=ExplicitVRBigEndian)
    big.write(folder / "big endian")
    yield Crafted("big endian", (big,), "accept")
    enhanced = Series()
    _module.save(enhanced.enhanced(), folder / "enhanced" / "a.dcm")
    yield Crafted("enhanced", (enhanced,), "accept")
    lying = Series().enhanced()
    lying.NumberOfFrames = 6000
    _module.save(lying, folder / "enhanced with frames that are not there" / "a.dcm")
    yield Crafted("enhanced with frames that are not there", (), "refuse")
    bytes_8 = Series(voxels=np.random.default_rng(1).integers(0, 255, (6, 10, 8)).astype(np.uint8))
    bytes_8.write(folder / "8 bits", lambda ds, index: setattr(ds["PixelData"], "VR", "OW"))
    yield Crafted("8 bits", (bytes_8,), "accept")
    Series(syntax=DeflatedExplicitVRLittleEndian).write(folder / "deflated")
    yield Crafted("deflated", (), "refuse")


def _meta_too(edit: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    def both(ds: Any, index: int) -> None:
        edit(ds, index)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID

    return both


def voxels_are_true(series: Any, volume: Volume) -> bool:
    """Whether every pixel of a series lies in the volume where the series' own geometry puts it."""
    try:
        series.assert_equals(volume)
    except AssertionError:
        return False
    return True
