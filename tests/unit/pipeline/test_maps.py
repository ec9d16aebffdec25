"""Maps of a study's cases, on real files, up to the rows of metrics.csv."""

from __future__ import annotations

import csv
import dataclasses
import json

import nibabel
import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import Volume
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.nifti import form_from_grid, read_label_map, read_map, write_label_map, write_volume
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.pipeline.echoes import first_echoes
from msksam_cli.pipeline.map_options import MapOptions
from msksam_cli.pipeline.maps import map_source, timed_series
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

ECHO_TIMES_MS = (10.0, 25.0, 40.0, 60.0)
FIRST_MS, SECOND_MS, AROUND_MS = 35.0, 60.0, 120.0


@pytest.fixture
def decaying(make_bones):
    """Volumes (K, J, I) for the rows and columns of DICOM, one per echo, and the labels they show."""
    volume, labels = make_bones(Grid((22, 26, 6), np.eye(4)))
    first, second = (labels.mask(index) for index in labels.tissues.indices)
    t2_ms = np.where(first, FIRST_MS, np.where(second, SECOND_MS, AROUND_MS))
    start = 4 * np.asarray(volume.intensities)
    return [(start * np.exp(-time / t2_ms)).transpose(2, 1, 0).astype(np.int16) for time in ECHO_TIMES_MS], labels


@pytest.fixture
def multi_echo(synthetic, small_study, decaying):
    """Writes the echoes as one DICOM series with further tags, and labels for its first echo, which it returns."""
    images, labels = decaying

    def write(**tags):
        series = synthetic(6, 26, 22, voxels=images[0])
        for echo in (2, 0, 3, 1):
            series.voxels = images[echo]
            series.tags = {"EchoTime": ECHO_TIMES_MS[echo], "EchoNumbers": echo + 1, **tags}
            series.write(small_study.images / f"e{echo}")
        (first,) = first_echoes(scan_study(small_study.images).series)
        write_labels(small_study, first, labels)
        return first

    return write


def write_labels(small_study, series, labels):
    """Labels for the series as it is converted; where they lie in it matters to no test here."""
    volume, form = read_series(series)
    placed = np.asarray(labels.values).reshape(volume.grid.shape)
    write_label_map(
        small_study.labels / f"{series.case}.nii.gz", dataclasses.replace(labels, values=placed, grid=volume.grid), form
    )


@pytest.fixture
def segment(small_study, small_checkpoint, tmp_path):
    defaults = SegmentOptions(
        small_study.images,
        ("bone",),
        tmp_path / "out",
        model=str(small_checkpoint),
        prompts=f"labels:{small_study.labels}",
        device="cpu",
        cache=tmp_path / "cache",
    )
    return lambda **changes: run_segment(dataclasses.replace(defaults, **changes))


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_echoes_of_a_series_become_a_t2_map_on_the_grid_of_the_labels(multi_echo, segment, tmp_path):
    first = multi_echo()
    run = segment()
    assert run.exit_code == 0
    stem = tmp_path / "out" / "maps" / f"{first.case}_T2map"
    labels = read_label_map(tmp_path / "out" / "labels" / f"{first.case}.nii.gz")
    found = read_map(stem.with_name(stem.name + ".nii.gz"), "ms")
    assert found.grid.matches(labels.grid, 1e-4)
    nearest = np.abs(found.values[..., None] - np.array([FIRST_MS, SECOND_MS, AROUND_MS])).min(axis=-1)
    assert np.nanmax(nearest) < 1.0
    for row in rows_of(tmp_path / "out"):
        inside = found.values[labels.values == int(row["label"])]
        assert float(row["map_mean"]) == pytest.approx(np.nanmean(inside), rel=1e-5)
        assert float(row["map_sd"]) == pytest.approx(np.nanstd(inside, ddof=1), rel=1e-4)
        assert row["map_unit"] == "ms"
    sidecar = json.loads(stem.with_name(stem.name + ".json").read_text())
    assert (sidecar["Units"], sidecar["source"], sidecar["times_ms"]) == ("ms", "fit", list(ECHO_TIMES_MS))
    r2 = nibabel.load(stem.with_name(stem.name + "_rsquared.nii.gz")).get_fdata()
    assert np.nanmin(r2) > 0.99
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["segmented"][0]["map"]["voxels_fitted"] == np.isfinite(found.values).sum()
    assert set(record["segmented"][0]["outputs"]) >= {f"maps/{first.case}_T2map{end}" for end in (".nii.gz", ".json")}


def test_a_spin_lock_series_becomes_a_t1_rho_map(multi_echo, segment, tmp_path):
    first = multi_echo(SeriesDescription="3D T1rho", ScanningSequence="GR")
    segment()
    assert (tmp_path / "out" / "maps" / f"{first.case}_T1rhomap.nii.gz").is_file()


def test_the_first_echo_can_be_skipped_and_another_fit_is_another_run(multi_echo, segment, tmp_path):
    multi_echo()
    segment()
    skipping = MapOptions(rules=dataclasses.replace(MapOptions().rules, skip_first=True))
    with pytest.raises(UsageError, match="segmented with other options"):
        segment(maps=skipping)
    segment(maps=skipping, overwrite=True)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["options"]["maps"]["skip_first"] is True


def test_a_finished_case_is_kept_until_one_of_its_later_echoes_changes(multi_echo, segment, synthetic, small_study):
    multi_echo()
    segment()
    assert segment().outcomes[0].resumed
    last = next((small_study.images / "e3").iterdir())
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(bytes(content))
    assert not segment().outcomes[0].resumed


def test_two_gradient_echoes_are_not_taken_for_a_decay(synthetic, small_study, decaying, segment, tmp_path):
    images, labels = decaying
    for echo in (0, 1):
        series = synthetic(6, 26, 22, voxels=images[echo])
        series.tags = {"EchoTime": ECHO_TIMES_MS[echo], "ScanningSequence": "GR"}
        series.write(small_study.images / f"e{echo}")
    (first,) = first_echoes(scan_study(small_study.images).series)
    write_labels(small_study, first, labels)
    segment()
    assert not (tmp_path / "out" / "maps").exists()
    assert {(row["map_mean"], row["map_unit"]) for row in rows_of(tmp_path / "out")} == {("", "")}


def test_a_ready_made_map_of_the_study_is_measured_and_not_segmented(
    synthetic, small_study, decaying, segment, tmp_path
):
    images, labels = decaying
    synthetic(6, 26, 22, voxels=images[0]).write(small_study.images / "image")
    derived = synthetic(6, 26, 22, voxels=np.full_like(images[0], 44), series_uid="1.2.826.0.1.3680043.8.498.2")
    derived.tags = {"ImageType": ["DERIVED", "PRIMARY", "M", "T2_MAP"], "SeriesNumber": 5}
    derived.write(small_study.images / "map")
    (image,) = first_echoes(scan_study(small_study.images).series)
    write_labels(small_study, image, labels)
    run = segment()
    assert [outcome.case for outcome in run.outcomes] == [image.case]
    assert {(row["map_mean"], row["map_unit"]) for row in rows_of(tmp_path / "out")} == {("44", "ms")}
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [entry["reason"] for entry in record["skipped"]] == ["a map, not an image"]


def test_a_ready_made_map_of_another_patient_on_the_same_grid_is_not_taken(synthetic, small_study, decaying):
    images, _ = decaying
    synthetic(6, 26, 22, voxels=images[0]).write(small_study.images / "image")
    derived = synthetic(6, 26, 22, voxels=images[0], series_uid="1.2.826.0.1.3680043.8.498.2")
    derived.tags = {"ImageType": ["DERIVED", "PRIMARY", "M", "T2_MAP"], "PatientID": "P2"}
    derived.write(small_study.images / "map")
    series = scan_study(small_study.images).series
    (image,) = first_echoes(series)
    found = map_source(MapOptions(), series).of_case(image, read_series(image)[0])
    assert (found.quantity_map, found.reason) == (None, "")


def test_a_nifti_map_of_a_study_belongs_to_the_case_of_its_name(small_study, segment, tmp_path):
    for case in ("sub-1_T1w", "sub-2_T1w"):
        small_study.add(case)
    grid = read_map(small_study.images / "sub-1_T1w.nii.gz", "").grid
    write_volume(
        small_study.images / "sub-1_T2map.nii.gz", Volume(np.full(grid.shape, 0.04), grid), form_from_grid(grid)
    )
    segment(maps=MapOptions(unit="s"))
    means = {(row["case"], row["map_mean"], row["map_unit"]) for row in rows_of(tmp_path / "out")}
    assert means == {("sub-1_T1w", "0.0399999991", "s"), ("sub-2_T1w", "", "")}


def test_a_study_of_maps_alone_is_refused(synthetic, small_study, segment):
    derived = synthetic(6, 26, 22)
    derived.tags = {"ImageType": ["DERIVED", "PRIMARY", "M", "T2_MAP"]}
    derived.write(small_study.images / "map")
    with pytest.raises(InputError, match="only maps of a quantity"):
        segment()


def test_given_maps_are_matched_by_case_and_failed_voxels_in_them_counted(small_study, segment, tmp_path):
    for case in ("a", "b", "c"):
        small_study.add(case)
    grid = read_map(small_study.images / "a.nii.gz", "").grid
    values = np.full(grid.shape, 52.0)
    values[::2] = np.nan
    write_volume(tmp_path / "maps" / "a_T1rhomap.nii.gz", Volume(values, grid), form_from_grid(grid))
    other = Grid(grid.shape, grid.affine @ np.diag([1, 1, 1.2, 1]))
    write_volume(tmp_path / "maps" / "b.nii.gz", Volume(values, other), form_from_grid(other))
    run = segment(maps=MapOptions(tmp_path / "maps"))
    assert run.exit_code == 0
    rows = {case: [row for row in rows_of(tmp_path / "out") if row["case"] == case] for case in "abc"}
    assert {row["map_mean"] for row in rows["a"]} == {"52"}
    assert all("voxels without a value" in row["reason"] for row in rows["a"])
    assert all("no map: the given map lies on another grid" in row["reason"] for row in rows["b"])
    assert all("no map: 0 of the given maps have the case's name" in row["reason"] for row in rows["c"])
    assert {row["map_mean"] for row in (*rows["b"], *rows["c"])} == {""}


@pytest.mark.parametrize("pattern", ["knee-echo-{}", "knee_part-{}", "sub-1_echo-{}_MESE"])
def test_times_the_tags_do_not_tell_are_given_for_volumes_numbered_in_their_names(small_study, decaying, pattern):
    images, _ = decaying
    for echo, image in enumerate(images):
        grid = Grid((22, 26, 6), np.diag([0.5, 0.7, 3.0, 1.0]))
        path = small_study.images / f"{pattern.format(echo + 1)}.nii.gz"
        write_volume(path, Volume(image.transpose(2, 1, 0).astype(np.float32), grid), form_from_grid(grid))
    small_study.add("other")
    options = MapOptions(spin_lock_times_ms=ECHO_TIMES_MS)
    series = timed_series(scan_study(small_study.images).series, options)
    cases = [one for one in first_echoes(series) if one.case != "other"]
    assert [one.case for one in cases] == [pattern.format(1)]
    found = map_source(options, series).of_case(cases[0], read_series(cases[0])[0])
    assert found.quantity_map.quantity == "T1rhomap"
    assert np.nanmedian(found.quantity_map.values) == pytest.approx(AROUND_MS, rel=0.02)


def test_times_for_which_there_are_no_volumes_are_refused_with_what_there_is(small_study):
    for number in (1, 2):
        small_study.add(f"knee-echo-{number}")
    series = scan_study(small_study.images).series
    with pytest.raises(UsageError, match=r"no set of volumes has 3 members.*found: knee 2"):
        timed_series(series, MapOptions(echo_times_ms=(1.0, 2.0, 3.0)))


def test_echoes_that_lack_slices_of_the_first_are_not_fitted_to_it(synthetic, small_study, decaying):
    images, _ = decaying
    for echo, image in enumerate(images):
        series = synthetic(6, 26, 22, voxels=image)
        series.tags = {"EchoTime": ECHO_TIMES_MS[echo]}
        series.write(small_study.images / f"e{echo}", indices=range(5) if echo == 2 else None)
    series = scan_study(small_study.images).series
    (first,) = first_echoes(series)
    found = map_source(MapOptions(), series).of_case(first, read_series(first)[0])
    assert found.quantity_map is None
    assert found.reason == f"no map: echoes lie on another grid: {first.case[:-1]}3"


def test_of_two_ready_made_maps_one_is_measured_and_the_other_named(synthetic, small_study, decaying):
    images, _ = decaying
    synthetic(6, 26, 22, voxels=images[0]).write(small_study.images / "image")
    for number, term in ((2, "T2_MAP"), (3, "T2_STAR_MAP")):
        derived = synthetic(6, 26, 22, voxels=images[0], series_uid=f"1.2.826.0.1.3680043.8.498.{number}")
        derived.tags = {"ImageType": ["DERIVED", "PRIMARY", "M", term], "SeriesNumber": number}
        derived.write(small_study.images / term)
    series = scan_study(small_study.images).series
    (image,) = first_echoes(series)
    facts = map_source(MapOptions(), series).of_case(image, read_series(image)[0]).facts
    assert sorted([facts["source"], *facts["not_measured"]]) == sorted(one.case for one in series if one.is_map)


def test_an_echo_that_cannot_be_read_leaves_the_labels_and_a_reason(multi_echo, small_study, segment, tmp_path):
    multi_echo()
    victim = next((small_study.images / "e3").iterdir())
    content = victim.read_bytes()
    run_series = scan_study(small_study.images).series
    (first,) = first_echoes(run_series)
    volume = read_series(first)[0]
    victim.write_bytes(content[: len(content) // 2])
    found = map_source(MapOptions(), run_series).of_case(first, volume)
    assert found.quantity_map is None
    assert found.reason.startswith("no map: ")
