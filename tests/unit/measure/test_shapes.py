import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError
from msksam_cli.measure.shapes import MORPHOMETRY_COLUMNS, Images, measure_shapes, thicknesses_of

GRID = Grid((60, 50, 20), np.diag([-0.5, -0.7, 1.5, 1.0]))


def labels(**boxes):
    values = np.zeros(GRID.shape, np.uint8)
    for name, where in boxes.items():
        values[where] = TISSUES.by_name(name.replace("_", "-")).index
    return LabelMap(values, GRID, TISSUES)


def shapes(label_map, **given):
    return measure_shapes(label_map, thicknesses_of(label_map), **given)


def cells(rows, tissue):
    return {(row.region, row.measure): row for row in rows if row.tissue == tissue}


KNEE = {"femur": np.s_[5:55, 5:45, 10:16], "femoral_cartilage": np.s_[10:50, 10:40, 6:10]}


def test_cartilage_has_whole_and_regional_rows_in_their_units():
    rows = cells(shapes(labels(**KNEE), side="left"), "femoral-cartilage")
    mean = rows["all", "thickness_mean"]
    assert (mean.value, mean.unit, mean.side, mean.reason) == (pytest.approx(6.0, abs=0.1), "mm", "left", "")
    assert rows["all", "covered_bone_area"].value == pytest.approx(20 * 21, rel=0.1)
    assert rows["all", "covered_bone_area"].unit == "mm2"
    halves = [rows[side, "covered_bone_area"].value for side in ("medial", "lateral")]
    assert sum(halves) == pytest.approx(rows["all", "covered_bone_area"].value)
    assert [rows["all", f"thickness_p{n}"].value for n in (5, 50, 95)] == pytest.approx([6.0] * 3, abs=0.2)
    assert rows["all", "enclosed_bare_bone_area"].value == 0


def test_without_a_bone_areas_are_empty_with_a_reason():
    rows = cells(shapes(labels(femoral_cartilage=KNEE["femoral_cartilage"])), "femoral-cartilage")
    assert rows["all", "thickness_mean"].value == pytest.approx(6.0, abs=0.3)
    assert rows["all", "covered_bone_area"].value is None
    assert "no bone touches this label" in rows["all", "covered_bone_area"].reason
    assert ("all", "articular_area") not in rows


def test_spine_has_heights_in_three_zones():
    rows = shapes(labels(l3_vertebral_body=np.s_[10:50, 10:40, 9:17], disc_l3_l4=np.s_[10:50, 10:40, 4:9]))
    body, disc = cells(rows, "l3-vertebral-body"), cells(rows, "disc-l3-l4")
    assert set(body) == {("all", "height_mean"), *((zone, "height") for zone in ("anterior", "middle", "posterior"))}
    assert body["anterior", "height"].value == pytest.approx(12.0, abs=0.1)
    assert disc["all", "height_mean"].value == pytest.approx(7.5, abs=0.1)


MUSCLE = {"quadriceps": np.s_[5:25, 10:40, 2:18], "fat": np.s_[30:50, 10:40, 2:18]}


def image(background=0.0, **levels):
    values = np.full(GRID.shape, background, np.float32)
    for name, level in levels.items():
        values[MUSCLE[name]] = level
    return Volume(values, GRID)


def test_muscle_has_areas_and_the_fat_that_its_images_allow():
    label_map = labels(**MUSCLE)
    rows = cells(shapes(label_map), "quadriceps")
    assert set(rows) == {("all", "cross_section_mean"), ("all", "cross_section_max"), ("all", "length")}
    assert rows["all", "cross_section_max"].value == pytest.approx(20 * 30 * 0.35)
    assert rows["all", "length"].value == pytest.approx(16 * 1.5)
    images = Images(image(quadriceps=50, fat=200), fat=image(quadriceps=30), water=image(quadriceps=70))
    rows = cells(shapes(label_map, images=images), "quadriceps")
    assert rows["all", "fat_fraction_dixon"].value == pytest.approx(0.3)
    assert (rows["all", "fat_share_two_class"].value, rows["all", "fat_share_two_class"].unit) == (0.0, "1")


def test_a_meniscus_without_its_tibial_cartilage_says_what_is_missing():
    rows = cells(
        shapes(labels(medial_meniscus=np.s_[10:20, 10:40, 4:8], tibia=KNEE["femur"]), side="left"), "medial-meniscus"
    )
    assert rows["central", "extrusion"].value is None
    assert rows["central", "extrusion"].reason == "no label for medial-tibial-cartilage"
    assert rows["central", "extrusion"].side == "medial"


def test_notes_stand_in_every_row_of_their_tissue():
    muscle = TISSUES.by_name("quadriceps").index
    rows = shapes(labels(**MUSCLE), notes={muscle: "cut by the field of view"})
    assert {row.reason for row in rows} == {"cut by the field of view"}


@pytest.mark.parametrize("name", ["image", "fat", "water"])
def test_an_image_on_another_grid_is_refused(name):
    other = Volume(np.zeros(GRID.shape, np.float32), Grid(GRID.shape, np.diag([0.5, 0.7, 2.0, 1.0])))
    with pytest.raises(GridMismatchError, match=f"labels and {name} lie on different grids"):
        shapes(labels(**MUSCLE), images=Images(**{name: other}))


def test_rows_hold_the_columns_of_the_table():
    assert MORPHOMETRY_COLUMNS == ("case", "tissue", "side", "region", "measure", "value", "unit", "reason")
    row = shapes(labels(**MUSCLE))[0].row("one")
    assert tuple(row) == MORPHOMETRY_COLUMNS
    assert (row["case"], row["tissue"], row["measure"]) == ("one", "quadriceps", "cross_section_mean")


MANY = (
    "femur",
    "tibia",
    "femoral-cartilage",
    "medial-tibial-cartilage",
    "lateral-tibial-cartilage",
    "patellar-cartilage",
    "medial-meniscus",
    "lateral-meniscus",
    "quadriceps",
    "fat",
    "l3-vertebral-body",
    "disc-l3-l4",
    "l4-vertebral-body",
)


@pytest.mark.parametrize("seed", range(5))
def test_ragged_labels_on_any_grid_give_finite_numbers_or_a_reason(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        shape = tuple(int(size) for size in rng.integers(1, [16, 18, 12]))
        affine = np.eye(4)
        affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag(rng.uniform(0.3, 4, 3))
        grid = Grid(shape, affine)
        chosen = [TISSUES.by_name(name).index for name in rng.choice(MANY, rng.integers(1, 6))]
        rough = [ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 2.5)) for _ in (0, *chosen)]
        label_map = LabelMap(np.array([0, *chosen], np.uint8)[np.argmax(rough, axis=0)], grid, TISSUES)
        volume = Volume(rng.normal(3, 1, shape).astype(np.float32), grid)
        for row in shapes(label_map, images=Images(volume, volume, volume)):
            assert row.reason if row.value is None else np.isfinite(row.value)
