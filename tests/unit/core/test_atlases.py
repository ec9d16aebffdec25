from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table

GRID = Grid((4, 3, 2), np.diag([0.5, 0.7, 3.0, 1.0]))
RIGHT, WRONG = np.zeros((4, 3, 2), np.float32), np.zeros((3, 4, 2), np.float32)


def _atlas(template=RIGHT, probabilities=None):
    probabilities = probabilities or {1: RIGHT, 4: RIGHT}
    return Atlas("a", "knee", "left", GRID, {"mean": template}, probabilities, default_table([1, 4]))


def test_an_atlas_has_arrays_of_its_own_shape():
    assert _atlas().grid is GRID
    with pytest.raises(ValueError, match=r"'mean' has shape \(3, 4, 2\)"):
        _atlas(template=WRONG)
    with pytest.raises(ValueError, match=r"4 has shape \(3, 4, 2\)"):
        _atlas(probabilities={1: RIGHT, 4: WRONG})


def test_an_atlas_has_one_probability_for_each_tissue_of_its_table():
    with pytest.raises(ValueError, match=r"probabilities of \[1\], tissues \(1, 4\)"):
        _atlas(probabilities={1: RIGHT})
    with pytest.raises(ValueError, match=r"probabilities of \[1, 4, 5\]"):
        _atlas(probabilities={1: RIGHT, 4: RIGHT, 5: RIGHT})
