"""Damaged NIfTI files by the thousand: python benchmarks/robustness/mutated_nifti.py [--files N] [--seed S].

NIfTI-1 and NIfTI-2, compressed and not, generated, damaged and read. Counted are exceptions other than a refusal,
reads that took longer than 15 s, and compressed files whose voxels or affine came back changed: their checksum must
tell. In a file without a checksum changed voxels cannot be noticed and are not counted. The exit status is 1 when a
count is not 0.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
from damage import damage, report, timed

from msksam_cli.errors import SeriesError
from msksam_cli.io.nifti import read_volume


def mutate_nifti(folder: Path, files: int, seed: int) -> Counter[str]:
    """Counts of `files` damaged files read from `folder`."""
    chooser, counts = random.Random(seed), Counter[str]()
    values = np.random.default_rng(0).integers(0, 900, (12, 11, 8)).astype(np.int16)
    affine = np.diag([0.5, 0.7, 3, 1])
    originals = []
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        for name in ("a.nii", "a.nii.gz"):
            kind(values, affine).to_filename(folder / name)
            originals.append((name, (folder / name).read_bytes()))

    def attempt(path: Path) -> None:
        try:
            volume, _ = read_volume(path)
        except SeriesError:
            counts["refused"] += 1
            return
        counts["read"] += 1
        if path.suffix == ".gz":
            same = np.array_equal(volume.intensities, values) and np.allclose(volume.grid.affine, affine, atol=1e-6)
            counts["moved"] += not same

    while counts["files"] < files:
        name, content = chooser.choice(originals)
        (folder / name).write_bytes(damage(content, chooser))
        counts["files"] += 1
        timed(lambda name=name: attempt(folder / name), counts)
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(report("NIfTI", mutate_nifti(Path(folder), options.files, options.seed)))


if __name__ == "__main__":
    main()
