from __future__ import annotations

import numpy as np

from msksam_cli.core.boxed import Boxed, quantised


def test_a_boxed_array_is_the_whole_one_and_each_of_its_slices() -> None:
    rng = np.random.default_rng(3)
    values = np.zeros((9, 8, 7), dtype=np.float32)
    values[2:6, 3:5, 1:6] = rng.random((4, 2, 5))
    boxed = Boxed.of(values)
    assert boxed.part.shape == (4, 2, 5)
    np.testing.assert_array_equal(boxed.whole(), values)
    for axis in range(3):
        for index in range(values.shape[axis]):
            np.testing.assert_array_equal(boxed.plane(axis, index), np.take(values, index, axis=axis))
    np.testing.assert_array_equal(boxed.quantised().whole(), quantised(values))
    nothing = Boxed.of(np.zeros((3, 4, 5), dtype=np.uint8))
    assert not nothing.whole().any()
    assert nothing.plane(0, 2).shape == (4, 5)
