from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.tissues import GROUPS, Tissue
from msksam_cli.phantom import tissues
from msksam_cli.phantom.relaxation import RELAXATION, Relaxation, infiltrated, relaxation_of


def test_every_tissue_of_the_table_has_relaxation_times_in_their_physical_order() -> None:
    assert set(RELAXATION) == set(TISSUES.indices)
    for index, tissue in RELAXATION.items():
        name = TISSUES.by_index(index).name
        assert 0 < tissue.t2_star_ms <= tissue.t2_ms <= tissue.spin_lock_decay_ms < tissue.t1_ms, name
        assert 0 < tissue.proton_density <= 1, name
        assert 0 <= tissue.fat_fraction < 1, name


def test_marrow_is_yellow_in_the_limbs_and_half_red_in_the_spine() -> None:
    spine = [RELAXATION[index].fat_fraction for index in (tissues.T11, tissues.L3, tissues.L5, tissues.SACRUM)]
    limbs = [RELAXATION[index].fat_fraction for index in (tissues.FEMUR, tissues.TIBIA, tissues.HUMERUS)]
    assert max(spine) < 0.55 < RELAXATION[tissues.HIP_BONE].fat_fraction < min(limbs)


def test_a_foreign_table_is_understood_by_name_before_index_and_group() -> None:
    assert relaxation_of(Tissue(1, "femoral-cartilage", group="other")) == RELAXATION[tissues.FEMORAL_CARTILAGE]
    assert relaxation_of(Tissue(1, "soleus", group="muscle")) == RELAXATION[tissues.DELTOID]
    for group in GROUPS:
        assert relaxation_of(Tissue(9, "unheard-of", group=group)).t1_ms > 0


def test_unknown_tissues_differ_from_index_to_index() -> None:
    densities = [relaxation_of(Tissue(index, f"label-{index}")).proton_density for index in range(1, 12)]
    assert np.diff(sorted(densities)).min() > 0.01


@pytest.mark.parametrize("part", [0.0, 0.25, 1.0])
def test_infiltration_replaces_water_by_fat_and_leaves_the_rest_of_the_tissue(part: float) -> None:
    muscle = Relaxation(0.6, 1420.0, 34.0, 22.0, 0.1)
    found = infiltrated(muscle, part)
    assert 1 - found.fat_fraction == pytest.approx((1 - part) * 0.9)
    assert (found.t1_ms, found.t2_ms) == (muscle.t1_ms, muscle.t2_ms)


@pytest.mark.parametrize("part", [-0.1, 1.1])
def test_a_fat_fraction_beyond_its_bounds_is_a_programmers_mistake(part: float) -> None:
    with pytest.raises(ValueError, match=f"fat fraction {part}"):
        infiltrated(RELAXATION[tissues.DELTOID], part)
