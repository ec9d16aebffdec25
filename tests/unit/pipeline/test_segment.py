"""The main job on real files with a real, if random, network."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import shutil
from itertools import permutations, product

import nibabel
import numpy as np
import pytest

from msksam_cli.core.series import Series
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.errors import InputError, MsksamError, UsageError
from msksam_cli.io.atomic import TEMPORARY_PREFIX, atomic_path
from msksam_cli.io.nifti import form_from_grid, read_label_map, read_volume, write_label_map
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.io.tables import read_tissue_table, write_tissue_table
from msksam_cli.pipeline.case_work import Failed, Segmented
from msksam_cli.pipeline.echoes import first_echoes
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions
from msksam_cli.pipeline.segment_text import run_text

PROMISED = (
    "labels.tsv", "labels.label.txt", "labels.ctbl", "metrics.csv", "morphometry.csv", "qc.csv", "slices.csv",
    "report.html", "run.json",
)  # fmt: skip


@pytest.fixture
def segment(small_study, small_checkpoint, tmp_path):
    """Segments the small study with prompts from its labels; keywords change the options."""
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


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def contents(folder, pattern):
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def cases_of(run, kind=Segmented):
    return [outcome.case for outcome in run.outcomes if isinstance(outcome, kind)]


def states_of(run):
    return [(outcome.case, "kept" if outcome.resumed else "made") for outcome in run.outcomes]


def test_a_run_leaves_every_file_the_contract_promises(small_study, segment, tmp_path):
    small_study.add("a")
    small_study.add("b", shift_px=2)
    run = segment()
    assert run.exit_code == 0
    found = files_below(tmp_path / "out")
    assert set(PROMISED) <= set(found)
    for case in ("a", "b"):
        assert {f"labels/{case}.nii.gz", f"prompts/{case}.json"} <= set(found)
    assert not any(name.startswith("images/") for name in found)
    rows = rows_of(tmp_path / "out" / "metrics.csv")
    assert [(row["case"], row["tissue"]) for row in rows] == [
        ("a", "femur"), ("a", "tibia"), ("b", "femur"), ("b", "tibia"),
    ]  # fmt: skip
    for row in rows:
        labels = read_label_map(tmp_path / "out" / "labels" / f"{row['case']}.nii.gz").values
        assert int(row["voxels"] or 0) == np.count_nonzero(labels == {"femur": 2, "tibia": 5}[row["tissue"]]) > 0
        assert float(row["volume_mm3"]) == pytest.approx(int(row["voxels"]) * 0.5 * 0.7 * 3.0)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [(file["file"], file["state"]) for file in record["files"]] == [("a.nii.gz", "used"), ("b.nii.gz", "used")]
    assert record["options"]["device"] == "cpu"
    assert record["options"]["model_sha256"]
    assert str(tmp_path) not in json.dumps(record)


def _affine(order, signs):
    axes = np.zeros((4, 4))
    for column, (row, sign, spacing) in enumerate(zip(order, signs, (0.5, 0.7, 3.0), strict=True)):
        axes[row, column] = sign * spacing
    axes[:, 3] = (12.5, -7.25, 33.0, 1)
    return axes


def _oblique():
    a, b = np.radians(14), np.radians(-23)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = _affine((2, 0, 1), (1, -1, -1))
    affine[:3, :3] = about_z @ about_x @ affine[:3, :3]
    return affine


ORIENTATIONS = [_affine(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (3, 0), (0, 0)], ids=str)
def test_labels_keep_affine_forms_codes_and_shape_of_their_image_bit_for_bit(codes, small_study, segment, tmp_path):
    sform_code, qform_code = codes
    affines = {f"c{number}": ORIENTATIONS[number] for number in (0, 13, 22, 31, 47)}
    affines["oblique"] = _oblique()
    if codes != (1, 1):
        affines = {"oblique": _oblique()}
    for name, affine in affines.items():
        small_study.add(name, affine=affine)
        path = small_study.images / f"{name}.nii.gz"
        image = nibabel.load(path)
        image.set_sform(affine, sform_code)
        image.set_qform(affine, qform_code)
        image.header["descrip"] = b"kept away"
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
        truth = read_label_map(small_study.labels / path.name)
        write_label_map(small_study.labels / path.name, truth, read_volume(path)[1])
    run = segment()
    assert not cases_of(run, Failed), run.outcomes
    for name in affines:
        image = nibabel.load(small_study.images / f"{name}.nii.gz")
        labels = nibabel.load(tmp_path / "out" / "labels" / f"{name}.nii.gz")
        assert labels.shape == image.shape
        np.testing.assert_array_equal(labels.affine, image.affine)
        for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                      "qoffset_z", "sform_code", "qform_code", "xyzt_units"):  # fmt: skip
            assert labels.header[field].tobytes() == image.header[field].tobytes(), field
        assert labels.header["pixdim"][:4].tobytes() == image.header["pixdim"][:4].tobytes()
        assert labels.get_data_dtype() == np.uint8
        assert (labels.header["scl_slope"], labels.header["scl_inter"]) in ((1, 0),) or np.isnan(
            labels.header["scl_slope"]
        )


def test_what_is_segmented_does_not_depend_on_the_axis_order_the_image_is_stored_in(small_study, segment, tmp_path):
    small_study.add("plain")
    image = nibabel.load(small_study.images / "plain.nii.gz")
    turned = image.as_reoriented([[1, 1], [0, -1], [2, -1]])
    assert turned.shape == (22, 26, 6)
    nibabel.save(turned, small_study.images / "turned.nii.gz")
    truth = nibabel.load(small_study.labels / "plain.nii.gz")
    nibabel.save(truth.as_reoriented([[1, 1], [0, -1], [2, -1]]), small_study.labels / "turned.nii.gz")
    segment()
    for name in ("plain", "turned"):
        prompts = json.loads((tmp_path / "out" / "prompts" / f"{name}.json").read_text())["prompts"]
        assert len(prompts) == 8
        centres = {
            (p["tissue"], round(np.mean(p["box_corners_mm"], axis=0)[2], 1)): np.mean(p["box_corners_mm"], axis=0)
            for p in prompts
        }
        if name == "plain":
            expected = centres
    for key, centre in expected.items():
        np.testing.assert_allclose(centres[key], centre, atol=0.8)


def test_a_second_run_encodes_no_slice_and_says_so_and_its_labels_are_the_same(small_study, segment, tmp_path):
    small_study.add("a")
    first = segment()
    second = segment(output=tmp_path / "again")
    assert first.outcomes[0].record.slices_encoded == 5
    assert (second.outcomes[0].record.slices_encoded, second.outcomes[0].record.slices_cached) == (0, 5)
    assert "0 slices encoded, 5 from the cache" in run_text(second)
    assert contents(tmp_path / "out", "*/*.nii.gz") == contents(tmp_path / "again", "*/*.nii.gz")
    assert contents(tmp_path / "out", "prompts/*") == contents(tmp_path / "again", "prompts/*")


def test_other_tissues_and_prompts_share_the_embeddings_of_the_slices(small_study, segment, tmp_path):
    small_study.add("a")
    segment()
    other = segment(output=tmp_path / "tibia", tissues=("tibia",), prompt_kind="point")
    assert other.outcomes[0].record.slices_encoded == 0
    assert set(np.unique(read_label_map(tmp_path / "tibia" / "labels" / "a.nii.gz").values)) <= {0, 5}


def test_without_a_cache_nothing_is_kept(small_study, segment, tmp_path):
    small_study.add("a")
    for _ in range(2):
        run = segment(use_cache=False, overwrite=True)
        assert run.outcomes[0].record.slices_encoded == 5
    assert not (tmp_path / "cache").exists()


def test_a_damaged_cache_entry_is_encoded_again_and_does_not_change_the_labels(small_study, segment, tmp_path):
    small_study.add("a")
    segment()
    entry = sorted((tmp_path / "cache").rglob("*.safetensors"))[0]
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes(content)
    run = segment(output=tmp_path / "again")
    assert (run.outcomes[0].record.slices_encoded, run.outcomes[0].record.slices_cached) == (1, 4)
    assert contents(tmp_path / "out", "labels/*") == contents(tmp_path / "again", "labels/*")


def test_finished_cases_are_kept_and_new_ones_added_to_the_tables(small_study, segment, tmp_path):
    small_study.add("a")
    small_study.add("b", shift_px=2)
    image = (small_study.images / "a.nii.gz").rename(tmp_path / "a.nii.gz")
    segment()
    before = (tmp_path / "out" / "labels" / "b.nii.gz").stat().st_mtime_ns
    image.rename(small_study.images / "a.nii.gz")
    run = segment()
    assert states_of(run) == [("a", "made"), ("b", "kept")]
    assert (tmp_path / "out" / "labels" / "b.nii.gz").stat().st_mtime_ns == before
    assert [row["case"] for row in rows_of(tmp_path / "out" / "metrics.csv")] == ["a", "a", "b", "b"]
    assert "1 by an earlier run" in run_text(run)


@pytest.mark.parametrize("damage", ["tampered", "deleted", "record deleted", "record cut short", "prompts deleted"])
def test_a_case_whose_outputs_are_not_as_written_is_made_again(damage, small_study, segment, tmp_path):
    small_study.add("a")
    small_study.add("b", shift_px=2)
    segment()
    out = tmp_path / "out"
    good = contents(out, "*/*.nii.gz") | contents(out, "prompts/*")
    target = {"prompts deleted": out / "prompts/a.json", "record deleted": out / "records/a.json"}.get(
        damage, out / "records/a.json" if damage == "record cut short" else out / "labels/a.nii.gz"
    )
    if "deleted" in damage:
        target.unlink()
    elif damage == "tampered":
        target.write_bytes(target.read_bytes()[:-1] + b"x")
    else:
        target.write_bytes(target.read_bytes()[:100])
    assert states_of(segment()) == [("a", "made"), ("b", "kept")]
    assert contents(out, "*/*.nii.gz") | contents(out, "prompts/*") == good


def test_a_case_whose_image_changed_is_made_again(small_study, segment, tmp_path):
    small_study.add("a")
    segment()
    old = (tmp_path / "out" / "labels" / "a.nii.gz").read_bytes()
    small_study.add("a", shift_px=3)
    assert states_of(segment()) == [("a", "made")]
    assert (tmp_path / "out" / "labels" / "a.nii.gz").read_bytes() != old


def test_a_case_that_can_no_longer_be_read_leaves_no_labels_of_an_earlier_input(small_study, segment, tmp_path):
    small_study.add("a")
    small_study.add("b", shift_px=2)
    segment()
    image = small_study.images / "a.nii.gz"
    values = np.asarray(nibabel.load(image).dataobj, np.float32).copy()
    values[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, nibabel.load(image).affine), image)
    run = segment()
    assert cases_of(run, Failed) == ["a"]
    assert run.exit_code == 3
    assert not (tmp_path / "out" / "labels" / "a.nii.gz").exists()
    assert {row["case"] for row in rows_of(tmp_path / "out" / "metrics.csv")} == {"b"}
    assert "not finite" in (tmp_path / "out" / "report.html").read_text()


def test_overwrite_makes_every_case_again(small_study, segment, tmp_path):
    small_study.add("a")
    segment()
    run = segment(overwrite=True)
    assert states_of(run) == [("a", "made")]
    assert run.outcomes[0].record.slices_encoded == 0


@pytest.mark.parametrize(
    "changes", [{"tissues": ("tibia",)}, {"prompt_kind": "box"}, {"fusion": False}, {"strict": True}], ids=str
)
def test_a_folder_with_labels_made_another_way_is_refused_and_kept(changes, small_study, segment, tmp_path):
    small_study.add("a")
    segment()
    before = contents(tmp_path / "out", "**/*.*")
    with pytest.raises(UsageError, match="1 cases segmented with other options"):
        segment(**changes)
    assert contents(tmp_path / "out", "**/*.*") == before
    assert states_of(segment(overwrite=True, **changes)) == [("a", "made")]


def test_overwriting_with_fewer_cases_leaves_no_row_or_label_of_the_old_way(small_study, segment, tmp_path):
    for name, shift in (("a", 0), ("b", 2)):
        small_study.add(name, shift_px=shift)
    segment()
    (small_study.images / "b.nii.gz").unlink()
    segment(tissues=("tibia",), overwrite=True)
    out = tmp_path / "out"
    assert [(row["case"], row["tissue"]) for row in rows_of(out / "metrics.csv")] == [("a", "tibia")]
    assert files_below(out / "labels") == ["a.nii.gz"]
    small_study.add("b", shift_px=2)
    assert states_of(segment(tissues=("tibia",))) == [("a", "kept"), ("b", "made")]


def test_shards_share_a_folder_and_together_make_every_case_as_one_run_does(small_study, segment, tmp_path):
    for number, name in enumerate("abc"):
        small_study.add(name, shift_px=number)
    runs = [segment(shard=(part, 2)) for part in (1, 2)]
    assert [cases_of(run) for run in runs] == [["a", "c"], ["b"]]
    segment(output=tmp_path / "whole")
    assert contents(tmp_path / "out", "labels/*") == contents(tmp_path / "whole", "labels/*")
    assert {row["case"] for row in rows_of(tmp_path / "out" / "metrics.csv")} == {"a", "b", "c"}
    assert {"run-1-of-2.json", "run-2-of-2.json"} <= set(files_below(tmp_path / "out"))
    assert states_of(segment()) == [("a", "kept"), ("b", "kept"), ("c", "kept")]


def test_a_shard_without_a_case_is_no_error(small_study, segment, tmp_path):
    small_study.add("a")
    run = segment(shard=(2, 2))
    assert (run.outcomes, run.exit_code) == ((), 0)
    assert (tmp_path / "out" / "run-2-of-2.json").is_file()


def test_a_shard_that_starts_leaves_the_files_another_is_writing_alone(small_study, segment, tmp_path):
    small_study.add("a")
    with atomic_path(tmp_path / "out" / "labels" / "z.nii.gz") as being_written:
        being_written.write_bytes(b"half")
        segment()
        assert being_written.exists()


def test_a_refused_series_among_good_ones_costs_exit_3_and_the_others_are_done(small_study, segment, tmp_path):
    small_study.add("a")
    good = (small_study.images / "a.nii.gz").read_bytes()
    (small_study.images / "cut.nii.gz").write_bytes(good[: len(good) // 2])
    shutil.copy(small_study.labels / "a.nii.gz", small_study.labels / "cut.nii.gz")
    (small_study.images / "notes.txt").write_text("nothing to see")
    run = segment()
    assert (run.exit_code, cases_of(run)) == (3, ["a"])
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    states = {file["file"][:3]: file["state"] for file in record["files"]}
    assert states == {"a.n": "used", "cut": "refused", "fil": "skipped"}
    assert any("cut short" in entry["reason"] for entry in record["refused"])
    assert "refused" in run_text(run)


def test_a_case_without_labels_to_prompt_from_fails_alone(small_study, segment):
    small_study.add("a")
    small_study.add("b", shift_px=2)
    (small_study.labels / "b.nii.gz").unlink()
    run = segment()
    assert (cases_of(run), run.exit_code) == (["a"], 3)
    (failed,) = [outcome for outcome in run.outcomes if isinstance(outcome, Failed)]
    assert failed.reason.startswith("0 label volumes for case b")


def test_labels_on_another_grid_fail_their_case_alone(small_study, segment):
    small_study.add("a")
    small_study.add("b", shift_px=2)
    labels = nibabel.load(small_study.labels / "b.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(np.asarray(labels.dataobj)[:, :-1], labels.affine), small_study.labels / "b.nii.gz"
    )
    run = segment()
    assert cases_of(run, Failed) == ["b"]
    assert "another grid" in run.outcomes[1].reason


@pytest.mark.parametrize("content", [None, "junk"])
def test_a_study_with_nothing_usable_is_an_input_error_and_leaves_nothing(content, small_study, segment, tmp_path):
    small_study.images.mkdir()
    if content:
        (small_study.images / "a.nii.gz").write_text(content)
    with pytest.raises(InputError, match="nothing usable among") as raised:
        segment()
    assert raised.value.exit_code == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("full_at", [("replace", 0), ("replace", 12), ("fsync", 45)], ids=str)
def test_a_full_disk_ends_the_run_without_a_partial_file_and_keeps_what_is_done(
    full_at, small_study, segment, tmp_path, monkeypatch
):
    call, after = full_at
    small_study.add("a")
    small_study.add("b", shift_px=2)
    whole = segment(output=tmp_path / "whole", cache=tmp_path / "other")
    assert whole.exit_code == 0
    real, count = getattr(os, call), iter(range(10_000))

    def full(*arguments):
        if next(count) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(f"msksam_cli.io.atomic.os.{call}", full)
    with pytest.raises(MsksamError, match="the disk is full") as raised:
        segment()
    assert raised.value.exit_code == 5
    monkeypatch.undo()
    left = files_below(tmp_path / "out")
    assert not [name for name in left if TEMPORARY_PREFIX in name]
    for pattern in ("labels/*", "prompts/*"):
        whole = contents(tmp_path / "whole", pattern)
        assert contents(tmp_path / "out", pattern).items() <= whole.items()
    run = segment()
    assert run.exit_code == 0
    assert contents(tmp_path / "out", "labels/*") == contents(tmp_path / "whole", "labels/*")


def test_a_full_disk_under_the_cache_ends_the_run_with_exit_5(small_study, segment, tmp_path, monkeypatch):
    small_study.add("a")

    real = os.replace

    def full(source, target):
        if target.is_relative_to(tmp_path / "cache"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr("msksam_cli.io.atomic.os.replace", full)
    with pytest.raises(MsksamError, match=r"cache.*the disk is full") as raised:
        segment()
    assert raised.value.exit_code == 5


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(small_study, segment, tmp_path):
    small_study.add("a")
    run = segment(dry_run=True)
    assert run.planned == ("a: femur, tibia",)
    assert "would segment  a: femur, tibia" in run_text(run)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_a_run_says_which_atlas_it_took_and_why(small_study, segment, small_atlas, tmp_path):
    small_study.add("a")
    planned = segment(dry_run=True, prompts="atlas", atlas=str(small_atlas))
    assert planned.planned == ("a: femur, tibia by atlas two-bones",)
    segment(prompts="atlas", atlas=str(small_atlas))
    (done,) = json.loads((tmp_path / "out" / "run.json").read_text())["segmented"]
    prompts = json.loads((tmp_path / "out" / "prompts" / "a.json").read_text())
    assert (done["fit"]["atlas"], done["fit"]["atlas_reason"]) == ("two-bones", "named by the user")
    assert (prompts["atlas"], prompts["atlas_reason"]) == ("two-bones", "named by the user")


def test_a_series_of_another_body_part_than_the_tissues_fails_and_a_dry_run_foretells_it(synthetic, segment, tmp_path):
    synthetic(tags={"BodyPartExamined": "KNEE"}).write(tmp_path / "knee")
    planned = segment(study=tmp_path / "knee", tissues=("disc",), prompts="atlas", dry_run=True)
    (refused,) = planned.outcomes
    assert (planned.planned, planned.exit_code) == ((), 3)
    run = segment(study=tmp_path / "knee", tissues=("disc",), prompts="atlas")
    (failed,) = run.outcomes
    assert failed == refused
    assert "shows the knee, whose atlas has no 'disc': knee-v1 knows femur, tibia" in failed.reason


def test_prompts_of_a_run_read_back_give_the_same_labels(small_study, segment, tmp_path):
    small_study.add("a")
    segment()
    run = segment(prompts=f"file:{tmp_path / 'out' / 'prompts' / 'a.json'}", output=tmp_path / "again")
    assert run.exit_code == 0
    assert contents(tmp_path / "out", "labels/*.nii.gz") == contents(tmp_path / "again", "labels/*.nii.gz")


def test_labels_that_give_prompts_never_enter_the_masks(small_study, segment, tmp_path):
    """Two label volumes with the same boxes and points but other voxels must give one result."""
    small_study.add("a")
    segment(prompt_kind="box")
    truth = read_label_map(small_study.labels / "a.nii.gz", read_tissue_table(small_study.labels.parent / "labels.tsv"))
    hollow = truth.values.copy()
    for index in (2, 5):
        for k in range(hollow.shape[2]):
            rows, columns = np.nonzero(truth.values[:, :, k] == index)
            if rows.size:
                edge = np.ones((np.ptp(rows) + 1, np.ptp(columns) + 1), bool)
                edge[1:-1, 1:-1] = False
                box = hollow[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1, k]
                box[box == index] = 0
                box[edge & (box == 0)] = index
    assert np.count_nonzero(hollow != truth.values) > 100
    path = tmp_path / "hollow" / "labels" / "a.nii.gz"
    write_label_map(path, dataclasses.replace(truth, values=hollow), form_from_grid(truth.grid))
    write_tissue_table(path.parent / "labels.tsv", truth.tissues)
    segment(prompts=f"labels:{path.parent}", prompt_kind="box", output=tmp_path / "out2")
    assert contents(tmp_path / "out", "labels/*.nii.gz") == contents(tmp_path / "out2", "labels/*.nii.gz")


def test_other_names_of_the_prompting_labels_are_another_run(small_study, segment, tmp_path):
    small_study.add("a")
    segment(tissues=("femur",))
    swapped = TissueTable((Tissue(5, "femur", group="bone"), Tissue(2, "tibia", group="bone")))
    write_tissue_table(small_study.labels.parent / "labels.tsv", swapped)
    with pytest.raises(UsageError, match="other options"):
        segment(tissues=("femur",))


def test_a_dicom_study_gives_labels_on_the_converted_image_of_every_series(
    synthetic, segment, small_study, make_bones, tmp_path
):
    for number, shape in ((1, (6, 26, 22)), (2, (5, 24, 30))):
        grid_shape = (shape[2], shape[1], shape[0])
        values, labels = _bones_on(make_bones, grid_shape)
        synthetic(
            *shape, voxels=values.transpose(2, 1, 0).astype(np.int16), series_uid=f"1.2.{number}",
            tags={"SeriesNumber": number, "PatientName": "Secret^Sentinel", "PatientID": "SENTINEL-7"},
        ).write(small_study.images / f"SENTINEL{number}")  # fmt: skip
    for series in scan_study(small_study.images).series:
        volume, form = read_series(series)
        _, labels = _bones_on(make_bones, volume.grid.shape)
        truth = dataclasses.replace(labels, grid=volume.grid)
        write_label_map(small_study.labels / f"{series.case}.nii.gz", truth, form)
    run = segment()
    assert (len(cases_of(run)), run.exit_code) == (2, 0), run.outcomes
    for case in cases_of(run):
        image = nibabel.load(tmp_path / "out" / "images" / f"{case}.nii.gz")
        labels = nibabel.load(tmp_path / "out" / "labels" / f"{case}.nii.gz")
        assert labels.shape == image.shape
        np.testing.assert_array_equal(labels.affine, image.affine)
        assert np.count_nonzero(np.asarray(labels.dataobj)) > 50
    for path in (tmp_path / "out").rglob("*"):
        assert "sentinel" not in path.name.lower()
        assert not path.is_file() or b"sentinel" not in path.read_bytes().lower()


def _bones_on(make_bones, shape):
    from msksam_cli.core.geometry import Grid

    volume, labels = make_bones(Grid(shape, np.eye(4)))
    return volume.intensities, labels


def test_only_the_first_echo_of_a_multi_echo_series_is_segmented(synthetic, segment, small_study, make_bones, tmp_path):
    values, _ = _bones_on(make_bones, (22, 26, 6))
    series = synthetic(6, 26, 22, voxels=values.transpose(2, 1, 0).astype(np.int16))
    for echo, milliseconds in enumerate((90.0, 11.0, 45.0)):
        series.tags = {"EchoTime": milliseconds, "EchoNumbers": echo + 1}
        series.write(small_study.images / f"e{echo}")
    scanned = scan_study(small_study.images).series
    (first,) = [one for one in scanned if one.echo_time_ms == 11.0]
    volume, form = read_series(first)
    _, labels = _bones_on(make_bones, volume.grid.shape)
    write_label_map(small_study.labels / f"{first.case}.nii.gz", dataclasses.replace(labels, grid=volume.grid), form)
    run = segment()
    assert (cases_of(run), run.exit_code) == ([first.case], 0)
    skipped = json.loads((tmp_path / "out" / "run.json").read_text())["skipped"]
    assert sorted(entry["case"] for entry in skipped) == sorted(one.case for one in scanned if one is not first)


def _echo(case, time_ms, group):
    from pathlib import Path

    return Series(case, "dicom", (Path("x"),), (0,), "MR", echo_time_ms=time_ms, echo_group=group)


def test_the_shortest_usable_echo_of_each_group_is_taken_also_when_the_first_was_refused():
    series = [
        _echo("s-1-echo-10", 90.0, "s-1"),
        _echo("s-1-echo-2", 20.0, "s-1"),
        _echo("s-1-echo-3", 30.0, "s-1"),
        _echo("s-2", 5.0, ""),
        _echo("s-3-echo-1", None, "s-3"),
    ]
    assert [one.case for one in first_echoes(series)] == ["s-1-echo-2", "s-2", "s-3-echo-1"]


def test_outputs_inside_the_study_are_not_taken_for_input_by_the_next_run(small_study, segment):
    small_study.add("a")
    for _ in range(2):
        run = segment(output=small_study.images / "results")
        assert cases_of(run) == ["a"]
    shutil.rmtree(small_study.images / "results" / "records")  # as a run killed during its first case leaves it
    assert cases_of(segment(output=small_study.images / "other")) == ["a"]


def test_only_the_cases_of_a_review_are_segmented_and_the_others_stand_in_the_record(small_study, segment, tmp_path):
    for name in ("a", "b", "c"):
        small_study.add(name)
    review = tmp_path / "review.csv"
    review.write_text("case,decision,note\na,accept,\nb,edit,\nc,reject,\n")
    run = segment(only=review)
    assert states_of(run) == [("b", "made"), ("c", "made")]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["skipped"] == [{"case": "a", "reason": "not named by --only"}]
    assert segment(only=review, dry_run=True).planned[0].startswith("b: ")


def test_only_never_replaces_labels_of_other_cases(small_study, segment, tmp_path):
    small_study.add("a")
    small_study.add("b")
    segment()
    before = contents(tmp_path / "out", "labels/*.nii.gz")
    only = tmp_path / "cases.txt"
    only.write_text("b\n")
    with pytest.raises(UsageError, match="1 cases segmented with other options that --only does not name"):
        segment(only=only, prompt_kind="point", overwrite=True)
    assert contents(tmp_path / "out", "labels/*.nii.gz") == before
    run = segment(only=only, overwrite=True)
    assert states_of(run) == [("b", "made")]
    assert 'data-case="a"' in (tmp_path / "out" / "report.html").read_text()


def test_a_run_tells_of_a_device_that_was_too_small(small_study, segment, tmp_path, monkeypatch):
    import torch

    from msksam_cli.sam import encode

    small_study.add("a")
    assert segment().outcomes[0].record.device_memory == []
    compute = encode.embed_images

    def holds_two(sam, images, precision="fp32"):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(sam, images, precision)

    monkeypatch.setattr(encode, "is_on_cpu", lambda sam: False)
    monkeypatch.setattr(encode, "embed_images", holds_two)
    segment(output=tmp_path / "again", cache=tmp_path / "other")
    (case,) = json.loads((tmp_path / "again" / "run.json").read_text())["segmented"]
    assert case["device_memory"] == ["slices encoded 2 at once, more did not fit"]
    assert case["slices_encoded"] == 5
    one, other = (read_label_map(tmp_path / folder / "labels" / "a.nii.gz").values for folder in ("out", "again"))
    assert np.mean(one != other) < 0.01
