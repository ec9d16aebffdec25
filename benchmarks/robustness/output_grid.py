"""Labels on their image's own grid in every orientation: python benchmarks/robustness/output_grid.py [--oblique N].

One volume in the 48 orders and directions that three axes can have, and in `--oblique` more that are turned by random
angles besides, with all combinations of sform and qform codes among them, is segmented by `segment` itself. Counted
are label volumes whose shape, affine, codes or stored geometry fields differ in one bit from their image's (moved),
and those whose labels do not lie on the bright and dark ellipsoids that prompted them (elsewhere). The exit status is
1 when a count is not 0.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from small_study import write_study

from msksam_cli.pipeline.segment import run_segment

SPACING_MM = (0.5, 0.7, 3.0)
CODES = ((1, 1), (2, 0), (0, 2), (3, 1), (1, 4))
GEOMETRY = ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
NEAR_MM = 6.0
BAD = ("moved", "elsewhere", "missing")


def affines(oblique: int, seed: int) -> list[NDArray[np.float64]]:
    """The 48 axis-aligned orientations, then some turned by random angles about random axes."""
    chooser, found = np.random.default_rng(seed), []
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = 0
        for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
            affine[world, axis] = sign * SPACING_MM[axis]
        affine[:3, 3] = (12.5, -7.25, 33.0)
        found.append(affine)
    for _ in range(oblique):
        turned = found[chooser.integers(48)].copy()
        rotation, _ = np.linalg.qr(chooser.normal(size=(3, 3)))
        turned[:3, :3] = rotation @ turned[:3, :3]
        found.append(turned)
    return found


def output_grid(root: Path, oblique: int, seed: int, every: int = 1) -> Counter[str]:
    """Counts over every `every`-th orientation, segmented below `root`."""
    counts, options = Counter[str](), write_study(root, 1)
    first, labels = options.study / "c000.nii.gz", root / "truth" / "labels"
    image, truth = (nibabel.load(path) for path in (first, labels / "c000.nii.gz"))
    values = np.asarray(truth.dataobj)
    for number, affine in list(enumerate(affines(oblique, seed)))[::every]:
        for source, folder in ((image, options.study), (truth, labels)):
            turned = nibabel.Nifti1Image(np.asarray(source.dataobj), affine)
            sform_code, qform_code = CODES[number % len(CODES)]
            turned.set_sform(affine, sform_code)
            turned.set_qform(affine, qform_code)
            turned.to_filename(folder / f"g{number:03d}.nii.gz")
    run_segment(options)
    for path in sorted(options.study.glob("g*.nii.gz")):
        counts["volumes"] += 1
        before, written = nibabel.load(path), options.output_folder / "labels" / path.name
        if not written.is_file():
            counts["missing"] += 1
            continue
        after = nibabel.load(written)
        fields = (*GEOMETRY, "sform_code", "qform_code", "dim", "pixdim")
        same = all(before.header[name].tobytes() == after.header[name].tobytes() for name in fields)
        counts["moved"] += not (same and np.array_equal(before.affine, after.affine))
        found = np.asarray(after.dataobj)
        for value in (2, 5):
            offset = np.argwhere(found == value).mean(axis=0) - np.argwhere(values == value).mean(axis=0)
            counts["elsewhere"] += not np.linalg.norm(offset * SPACING_MM) < NEAR_MM
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--oblique", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = output_grid(Path(folder), options.oblique, options.seed)
    for name in ("volumes", *BAD):
        print(f"{name:12}{counts[name]:8}")
    sys.exit(int(any(counts[name] for name in BAD)))


if __name__ == "__main__":
    main()
