"""Labels made again from their prompts: bit for bit, or said not to be."""

from __future__ import annotations

import dataclasses
import json
import shutil

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from msksam_cli.app import app
from msksam_cli.atlas.build import Naming, atlas_case, build_atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.errors import AtlasError, GridMismatchError, InputError, ModelError
from msksam_cli.io.atlas_folder import write_atlas
from msksam_cli.io.fusion_file import FusionWeights, write_fusion_file
from msksam_cli.io.weights import file_sha256
from msksam_cli.pipeline.fusion_weights import fitted_path
from msksam_cli.pipeline.replay import ReplayOptions, replay_text, run_replay
from msksam_cli.pipeline.replay_record import read_replay_record
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions


@pytest.fixture
def segment(small_study, small_checkpoint, small_atlas, tmp_path):
    """Segments the small study by its atlas into `out`; keywords change the options."""
    defaults = SegmentOptions(
        small_study.images,
        ("bone",),
        tmp_path / "out",
        atlas=str(small_atlas),
        model=str(small_checkpoint),
        device="cpu",
        cache=tmp_path / "cache",
    )

    def run(**changes):
        done = run_segment(dataclasses.replace(defaults, **changes))
        assert done.exit_code == 0
        return done

    return run


@pytest.fixture
def replay(small_study, small_checkpoint, small_atlas, tmp_path):
    """Replays case a of `out`; keywords change the options."""
    defaults = ReplayOptions(
        tmp_path / "out" / "prompts" / "a.json",
        small_study.images / "a.nii.gz",
        tmp_path / "again" / "a.nii.gz",
        str(small_checkpoint),
        str(small_atlas),
    )
    return lambda **changes: run_replay(dataclasses.replace(defaults, **changes))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fusion": False},
        {"prompts": "labels:{labels}"},
        {"prompts": "labels:{labels}", "fusion": False, "prompt_kind": "box"},
        {"tissues": ("femur",), "prompt_kind": "box"},
        {"encode_size": "slice"},
        {"encode_size": 96, "use_cache": False},
    ],
    ids=str,
)
def test_a_replay_gives_the_very_file_the_run_wrote(changes, small_study, segment, replay, tmp_path):
    small_study.add("a")
    segment(**{key: value.format(labels=small_study.labels) if isinstance(value, str) and ":" in value else value
               for key, value in changes.items()})  # fmt: skip
    done = replay()
    assert (done.is_identical, done.exit_code, done.differing_voxels, done.notes) == (True, 0, 0, ())
    written = tmp_path / "out" / "labels" / "a.nii.gz"
    assert (tmp_path / "again" / "a.nii.gz").read_bytes() == written.read_bytes()
    assert np.count_nonzero(np.asanyarray(nibabel.load(written).dataobj)) > 50


def test_labels_of_an_exported_model_are_replayed_by_its_export(small_study, segment, replay, small_export, tmp_path):
    small_study.add("a")
    segment(runtime="onnx", model=str(small_export.folder))
    assert json.loads((tmp_path / "out" / "prompts" / "a.json").read_text())["replay"]["runtime"] == "onnx"
    assert replay(model=str(small_export.folder)).is_identical


def test_thin_tissues_are_laid_along_the_same_bones_again(small_study, segment, replay, make_bones, tmp_path):
    tissues = TissueTable((Tissue(2, "femur", group="bone"), Tissue(5, "femoral-cartilage", group="cartilage")))
    grid = Grid((40, 36, 14), np.diag([2.0, 2.2, 5.0, 1.0]))
    cases = [atlas_case(*make_bones(grid, shift_px=shift, tissues=tissues), spacing_mm=3.0) for shift in (0, 1)]
    write_atlas(tmp_path / "thin", build_atlas(cases, Naming("thin"), spacing_mm=3.0, deformable=False))
    small_study.add("a", affine=np.diag([3.0, 3.6, 11.5, 1.0]))
    segment(atlas=str(tmp_path / "thin"), tissues=("cartilage",))
    prompts = json.loads((tmp_path / "out" / "prompts" / "a.json").read_text())
    assert {one["tissue"] for one in prompts["prompts"]} == {"femoral-cartilage"}
    done = replay(atlas=str(tmp_path / "thin"))
    assert done.is_identical
    assert np.count_nonzero(np.asanyarray(nibabel.load(tmp_path / "again" / "a.nii.gz").dataobj)) > 10


def test_a_run_from_a_file_of_prompts_is_replayed(small_study, segment, replay, tmp_path):
    small_study.add("a")
    segment()
    before = (tmp_path / "out" / "labels" / "a.nii.gz").read_bytes()
    shutil.move(tmp_path / "out" / "prompts" / "a.json", tmp_path / "asked.json")
    segment(prompts=f"file:{tmp_path / 'asked.json'}", overwrite=True)
    assert (tmp_path / "out" / "labels" / "a.nii.gz").read_bytes() != before
    assert replay().is_identical


def test_the_rules_of_the_run_hold_although_the_fit_they_came_from_is_gone(
    small_study, segment, replay, small_checkpoint, tmp_path
):
    small_study.add("a")
    checkpoint = tmp_path / "fitted.safetensors"
    shutil.copy(small_checkpoint, checkpoint)
    weights = FusionWeights(0.25, {"bone": 3.0}, file_sha256(checkpoint))
    write_fusion_file(fitted_path(str(checkpoint)), weights)
    segment(model=str(checkpoint))
    fitted_path(str(checkpoint)).unlink()
    assert read_replay_record(tmp_path / "out" / "prompts" / "a.json").rules.group_weights == {"bone": 3.0}
    assert replay(model=str(checkpoint)).is_identical
    before = (tmp_path / "out" / "labels" / "a.nii.gz").read_bytes()
    segment(model=str(checkpoint), overwrite=True)
    assert (tmp_path / "out" / "labels" / "a.nii.gz").read_bytes() != before


def test_what_the_cache_held_makes_no_difference(small_study, segment, replay):
    small_study.add("a")
    segment(tissues=("femur",))
    segment(overwrite=True)
    assert replay().is_identical


@pytest.fixture
def dicom_series(synthetic, make_bones):
    """The two bones of a left knee as an oblique DICOM series whose positions no NIfTI header holds exactly."""
    volume, _ = make_bones(Grid((26, 22, 6), np.diag([0.5, 0.7, 3.0, 1.0])))
    voxels = np.asarray(volume.intensities).transpose(2, 1, 0).astype(np.int16)
    tags = {"BodyPartExamined": "KNEE", "Laterality": "L"}
    shape = {"slices": 6, "rows": 22, "columns": 26, "pixel_spacing_mm": (0.7, 0.5)}
    return synthetic(**shape, voxels=voxels, tags=tags, origin_mm=(0.1, 1 / 3, 2 / 7))


def test_a_dicom_run_finds_its_image_by_itself(dicom_series, segment, replay, tmp_path):
    dicom_series.write(tmp_path / "dicom")
    segment(study=tmp_path / "dicom")
    prompts = next((tmp_path / "out" / "prompts").glob("*.json"))
    record = read_replay_record(prompts)
    assert (record.side, record.body_part) == ("left", "knee")
    rounded = np.float32(record.grid.affine)
    assert not np.array_equal(rounded, record.grid.affine)
    changes = {"prompts": prompts, "image": None, "output": tmp_path / "again.nii.gz"}
    assert replay(**changes).is_identical
    written = tmp_path / "out" / "labels" / f"{record.case}.nii.gz"
    assert (tmp_path / "again.nii.gz").read_bytes() == written.read_bytes()
    (tmp_path / "out" / record.image).unlink()
    with pytest.raises(InputError, match=r"the image series-4-\w+\.nii\.gz of case series-4-\w+ is not there"):
        replay(**changes)


def test_an_edited_prompt_gives_other_labels_and_both_are_said(small_study, segment, replay, tmp_path):
    small_study.add("a")
    segment()
    edit(tmp_path / "out" / "prompts" / "a.json", lambda content: content["prompts"].pop())
    done = replay()
    assert (done.is_identical, done.exit_code) == (False, 3)
    assert done.notes == ("the prompts were edited after the run",)
    before, after = (
        np.asanyarray(nibabel.load(tmp_path / folder / "a.nii.gz").dataobj) for folder in ("out/labels", "again")
    )
    assert done.differing_voxels == np.count_nonzero(before != after) > 0
    assert f"a: different, {done.differing_voxels} of 3432 voxels" in replay_text(done)
    (tmp_path / "out" / "labels" / "a.nii.gz").unlink()
    assert "a: different, an unknown number of 3432 voxels" in replay_text(replay())
    assert replay().differing_voxels is None


def test_another_model_is_refused_with_both_hashes(small_study, segment, replay, small_checkpoint, tmp_path):
    small_study.add("a")
    segment()
    recorded = read_replay_record(tmp_path / "out" / "prompts" / "a.json").model_sha256
    with pytest.raises(ModelError, match=rf"sha256 {recorded[:16]}… \(random\), model msksam-small has \w{{16}}…"):
        replay(model="msksam-small")
    with pytest.raises(ModelError, match=r"model of the run: .*Give the checkpoint with --model"):
        replay(model="")


def test_another_atlas_is_refused_with_both_hashes_unless_it_took_no_part(
    small_study, segment, replay, make_bones, tmp_path
):
    small_study.add("a")
    grid = Grid((40, 36, 14), np.diag([2.0, 2.2, 5.0, 1.0]))
    other = build_atlas(
        [atlas_case(*make_bones(grid, shift_px=shift), spacing_mm=3.0) for shift in (0, 4)],
        Naming("two-bones"),
        spacing_mm=3.0,
        deformable=False,
    )
    write_atlas(tmp_path / "other", other)
    segment()
    recorded = read_replay_record(tmp_path / "out" / "prompts" / "a.json").atlas_sha256
    with pytest.raises(AtlasError, match=rf"sha256 {recorded[:16]}… \(two-bones\), atlas two-bones has \w{{16}}…"):
        replay(atlas=str(tmp_path / "other"))
    segment(fusion=False, overwrite=True)
    assert replay(atlas=str(tmp_path / "other")).is_identical


def test_another_image_is_refused(small_study, segment, replay):
    small_study.add("a")
    small_study.add("b", shift_px=1)
    small_study.add("c", affine=np.diag([0.5, 0.7, 2.0, 1.0]))
    segment()
    with pytest.raises(InputError, match=r"b\.nii\.gz is another volume: sha256 \w{16}… .*, recorded \w{16}…"):
        replay(image=small_study.images / "b.nii.gz")
    with pytest.raises(GridMismatchError, match=r"c\.nii\.gz does not lie on the grid of the run"):
        replay(image=small_study.images / "c.nii.gz")
    with pytest.raises(InputError, match=r"a\.json was made from a\.nii\.gz.*--image"):
        replay(image=None)


def test_other_versions_are_noted_and_do_not_stop_it(small_study, segment, replay, tmp_path):
    small_study.add("a")
    segment()
    edit(tmp_path / "out" / "prompts" / "a.json", lambda content: content["replay"]["versions"].update(numpy="0.1"))
    done = replay()
    assert done.is_identical
    assert done.notes == (f"numpy was 0.1, is {np.__version__}",)


@pytest.mark.parametrize(
    "damage",
    [
        (lambda content: content.pop("replay"), "does not say how its labels were made"),
        (lambda content: content["replay"].pop("rules"), "is damaged: KeyError"),
        (lambda content: content["replay"].update(threads_of="x"), "is damaged: TypeError"),
        (lambda content: content.update(format="other"), "is no file of prompts"),
    ],
)
def test_files_that_say_too_little_are_refused(damage, small_study, segment, replay, tmp_path):
    change, message = damage
    small_study.add("a")
    segment()
    edit(tmp_path / "out" / "prompts" / "a.json", change)
    with pytest.raises(InputError, match=message):
        replay()


def test_prompts_say_nothing_of_where_things_lie(small_study, segment, tmp_path):
    small_study.add("a")
    segment()
    text = (tmp_path / "out" / "prompts" / "a.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["replay"]["image"] == "a.nii.gz"


def test_the_command_tells_and_ends_with_0_or_3(small_study, segment, small_checkpoint, small_atlas, tmp_path):
    small_study.add("a")
    segment()
    prompts = tmp_path / "out" / "prompts" / "a.json"
    arguments = [
        "replay", str(prompts), "--image", str(small_study.images / "a.nii.gz"), "--model", str(small_checkpoint),
        "--atlas", str(small_atlas),
    ]  # fmt: skip
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0
    assert said.stdout.startswith("a: identical, 3432 voxels, sha256 ")
    edit(prompts, lambda content: content["prompts"].pop(0))
    told = CliRunner().invoke(app, [*arguments, "--json"])
    assert told.exit_code == json.loads(told.stdout)["exit_code"] == 3
    assert json.loads(told.stdout)["identical"] is False
