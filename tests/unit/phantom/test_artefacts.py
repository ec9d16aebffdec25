from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from msksam_cli.phantom.artefacts import folded, moved

SHAPE = (40, 54, 5)


@pytest.fixture
def block() -> NDArray[np.float32]:
    image = np.zeros(SHAPE, dtype=np.float32)
    image[12:28, 20:36, 1:4] = 1.0
    return image


@pytest.mark.parametrize("axis", [0, 1])
def test_motion_ghosts_along_the_phase_axis_alone(block: NDArray[np.float32], axis: int) -> None:
    found = moved(block, 3.0, axis, np.random.default_rng(1))
    rows = [slice(12, 28), slice(20, 36)]
    along: list[slice] = [slice(None), slice(None)]
    along[1 - axis] = rows[1 - axis]
    outside = np.ones(SHAPE, dtype=bool)
    outside[along[0], along[1], 1:4] = False
    assert found[outside].max() < 1e-5
    ghost = found.copy()
    ghost[rows[0], rows[1]] = 0
    assert ghost.max() > 0.05


def test_motion_keeps_the_energy_and_grows_with_its_amplitude(block: NDArray[np.float32]) -> None:
    found = [moved(block, size, 1, np.random.default_rng(1)) for size in (0.5, 1.0, 3.0)]
    for image in found:
        assert float((image**2).sum()) == pytest.approx(float((block**2).sum()), rel=1e-4)
    changes = [float(np.abs(image - block).sum()) for image in found]
    assert changes[0] < changes[1] < changes[2]


def test_no_motion_and_a_single_line_leave_the_image_as_it_is(block: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(moved(block, 0.0, 1, np.random.default_rng(1)), block)
    line = block[:, 25:26]
    np.testing.assert_array_equal(moved(line, 2.0, 1, np.random.default_rng(1)), line)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_lies_beyond_one_end_appears_at_the_other(axis: int) -> None:
    length, margin = SHAPE[axis], 6
    image = np.zeros(SHAPE, dtype=np.float32)
    along = np.moveaxis(image, axis, 0)
    along[margin - 2] = 5.0
    along[20] = 1.0
    found = np.moveaxis(folded(image, margin, axis), axis, 0)
    assert found.shape[0] == length - 2 * margin
    assert (found[-2] == 5.0).all()
    assert (found[20 - margin] == 1.0).all()
    assert found.sum() == image.sum()


def test_a_margin_longer_than_the_field_of_view_is_a_programmers_mistake(block: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(folded(block, 0, 1), block)
    with pytest.raises(ValueError, match="margins of 18 voxels fold into a field of view of 4"):
        folded(block, 18, 0)
