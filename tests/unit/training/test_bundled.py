from __future__ import annotations

import numpy as np

from msksam_cli.core.terminology import TISSUES, tissues_of
from msksam_cli.phantom.regions import REGIONS
from msksam_cli.training.bundled import SPACING_MM, region_bank, sequence_levels


def test_half_the_images_have_the_levels_of_a_sequence_for_every_tissue_of_the_table():
    drawn = [sequence_levels(np.random.default_rng(seed)) for seed in range(200)]
    given = [levels for levels in drawn if levels is not None]
    assert 70 < len(given) < 130
    for levels in given:
        assert set(levels) == set(TISSUES.indices)
        values = np.array(list(levels.values()))
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() == 1
    assert np.std([levels[1] for levels in given]) > 0.1


def test_volumes_are_drawn_once_and_read_back_the_next_time(tmp_path):
    (first,) = region_bank(tmp_path, 1, 5, ["thigh"])
    (kept,) = tmp_path.iterdir()
    written_ns = kept.stat().st_mtime_ns
    (again,) = region_bank(tmp_path, 1, 5, ["thigh"])
    assert kept.stat().st_mtime_ns == written_ns
    np.testing.assert_array_equal(first.values, again.values)
    assert first.tissues == tissues_of("thigh", findings=True)
    assert first.grid.shape == REGIONS["thigh"].grid(SPACING_MM["thigh"]).shape
