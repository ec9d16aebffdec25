import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from msksam_cli.core.boxed import bounding_box
from msksam_cli.core.tissues import GROUPS, SIDES, Tissue, TissueTable
from msksam_cli.io.tables import read_csv, read_tissue_table, write_csv, write_tissue_table
from msksam_cli.measure.overlap import dice, iou
from msksam_cli.measure.surface import assd_mm, hausdorff_mm, hd95_mm, surface_dice, surface_distances

SPACING_MM = (0.5, 0.7, 3.0)
MASKS = arrays(np.bool_, (5, 4, 3))
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8).filter(
    lambda name: name != "n/a"
)


@given(MASKS, MASKS)
def test_overlap_does_not_depend_on_the_order_of_the_masks_and_dice_is_2iou_over_1_plus_iou(a, b):
    assert (dice(a, b), iou(a, b)) == (dice(b, a), iou(b, a))
    if dice(a, b) is not None:
        assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)))


@settings(deadline=None)
@given(MASKS, MASKS)
def test_surface_measures_do_not_depend_on_the_order_of_the_masks(a, b):
    one, other = surface_distances(a, b, SPACING_MM), surface_distances(b, a, SPACING_MM)
    for measure in (hd95_mm, assd_mm, hausdorff_mm, lambda d: surface_dice(d, 0.8)):
        assert measure(one) == pytest.approx(measure(other))


@settings(deadline=None)
@given(MASKS, MASKS, st.tuples(*[st.integers(0, 3)] * 6))
def test_surface_measures_do_not_change_when_both_masks_move_inside_a_larger_array(a, b, margins):
    pad = tuple(zip(margins[:3], margins[3:], strict=True))
    here = surface_distances(a, b, SPACING_MM)
    there = surface_distances(np.pad(a, pad), np.pad(b, pad), SPACING_MM)
    assert hd95_mm(here) == pytest.approx(hd95_mm(there))
    assert assd_mm(here) == pytest.approx(assd_mm(there))


@settings(deadline=None)
@given(MASKS, MASKS)
def test_surface_measures_are_ordered_and_scale_with_the_spacing(a, b):
    distances = surface_distances(a, b, SPACING_MM)
    if distances.comparable:
        assert assd_mm(distances) <= hausdorff_mm(distances) + 1e-12
        assert hd95_mm(distances) <= hausdorff_mm(distances)
        assert surface_dice(distances, 0.5) <= surface_dice(distances, 1.5)
        doubled = surface_distances(a, b, tuple(2 * step for step in SPACING_MM))
        assert hd95_mm(doubled) == pytest.approx(2 * hd95_mm(distances))
        assert assd_mm(doubled) == pytest.approx(2 * assd_mm(distances))


@given(MASKS)
def test_nothing_of_a_mask_lies_outside_its_bounding_box_and_each_side_touches_it(mask):
    box = bounding_box(mask)
    if box is None:
        assert not mask.any()
        return
    assert mask[box].sum() == mask.sum()
    for axis in range(3):
        faces = np.moveaxis(mask[box], axis, 0)
        assert faces[0].any()
        assert faces[-1].any()


@settings(deadline=None)
@given(
    st.dictionaries(
        st.integers(1, 65535), st.tuples(NAMES, st.sampled_from(GROUPS), st.sampled_from(SIDES)), min_size=1
    )
)
def test_tissue_tables_come_back_as_written(tmp_path_factory, rows):
    unique = {name: (index, group, side) for index, (name, group, side) in rows.items()}
    table = TissueTable(tuple(Tissue(i, name, group=group, side=side) for name, (i, group, side) in unique.items()))
    path = tmp_path_factory.mktemp("table") / "labels.tsv"
    write_tissue_table(path, table)
    assert read_tissue_table(path) == table


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), min_size=1), min_size=1))
def test_cells_of_any_text_come_back_as_written(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    write_csv(path, ("case", "reason"), [{"case": "x", "reason": cell} for cell in cells])
    assert [row["reason"] for row in read_csv(path)] == cells
