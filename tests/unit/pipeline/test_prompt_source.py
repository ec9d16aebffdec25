from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from msksam_cli.core.series import Series
from msksam_cli.errors import AtlasError, InputError, UsageError
from msksam_cli.io import atlas_folder
from msksam_cli.io.atlas_folder import read_atlas, write_atlas
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.study import input_sha256
from msksam_cli.pipeline.prompt_source import case_inputs_sha256, given_prompts, prompt_source
from msksam_cli.pipeline.segment_options import SegmentOptions


@pytest.fixture
def installed(tmp_path, monkeypatch, small_atlas):
    """A folder of installed atlases, empty at first, and a function that installs the small one changed."""
    monkeypatch.setattr(atlas_folder, "bundled_atlas_folder", lambda: tmp_path / "bundled")
    monkeypatch.setattr(atlas_folder, "user_atlas_folder", lambda: tmp_path / "own")
    atlas = read_atlas(small_atlas)

    def install(name, shift=0, **changes):
        tissues = dataclasses.replace(
            atlas.tissues, tissues=tuple(dataclasses.replace(t, index=t.index + shift) for t in atlas.tissues)
        )
        moved = {index + shift: p for index, p in atlas.probabilities.items()}
        changed = dataclasses.replace(atlas, name=name, tissues=tissues, probabilities=moved, populations={}, **changes)
        return write_atlas(tmp_path / "own" / name, changed)

    return install


def _options(tmp_path, **changes):
    return SegmentOptions(**{"study": tmp_path, "tissues": ("bone",), **changes})


def _series(path):
    return Series(path.name.removesuffix(".nii.gz"), "nifti", (path,), (0,), "NIfTI")


def test_an_atlas_is_taken_by_name_by_folder_or_because_it_knows_the_tissues(installed, small_atlas, tmp_path):
    installed("knee-x", body_part="knee")
    for atlas in ("auto", "knee-x", str(small_atlas)):
        source = prompt_source(_options(tmp_path, atlas=atlas, tissues=("tibia",)))
        assert source.tissues.indices == (5,)
        assert len(source.shelf.names) == 1


def test_without_an_atlas_or_the_tissue_the_refusal_says_so(installed, tmp_path):
    with pytest.raises(AtlasError, match="no atlas is installed"):
        prompt_source(_options(tmp_path))
    installed("knee-x")
    with pytest.raises(UsageError, match=r"unknown tissue 'humerus'.*femur, tibia"):
        prompt_source(_options(tmp_path, tissues=("humerus",)))
    with pytest.raises(UsageError, match="unknown tissue 'humerus'"):
        prompt_source(_options(tmp_path, tissues=("humerus",), atlas="knee-x"))
    with pytest.raises(AtlasError, match=r"no atlas 'knee-y'.*knee-x"):
        prompt_source(_options(tmp_path, atlas="knee-y"))


def test_atlases_that_number_the_same_tissues_differently_are_not_mixed(installed, tmp_path):
    installed("a", body_part="knee")
    installed("b", shift=10, body_part="hip")
    with pytest.raises(UsageError, match="atlases a, b know these tissues under different numbers"):
        prompt_source(_options(tmp_path))
    assert prompt_source(_options(tmp_path, atlas="b")).tissues.indices == (12, 15)


def test_a_source_is_known_by_its_atlas_and_not_by_the_folder_it_lies_in(installed, tmp_path):
    installed("a")
    first = prompt_source(_options(tmp_path)).sha256
    installed("a", body_part="knee")
    assert prompt_source(_options(tmp_path)).sha256 != first


def test_prompts_from_a_path_that_is_not_there_are_a_mistake_in_the_options(installed, tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist"):
        prompt_source(_options(tmp_path, prompts=f"labels:{tmp_path / 'nowhere'}"))


def test_labels_are_named_by_the_table_beside_them_else_by_an_atlas(installed, small_study, tmp_path):
    small_study.add("a")
    prompts = f"labels:{small_study.labels}"
    assert [t.name for t in prompt_source(_options(tmp_path, prompts=prompts)).tissues] == ["femur", "tibia"]
    (small_study.labels.parent / "labels.tsv").unlink()
    with pytest.raises(AtlasError, match="no atlas is installed"):
        prompt_source(_options(tmp_path, prompts=prompts))
    installed("knee-x")
    assert [t.name for t in prompt_source(_options(tmp_path, prompts=prompts)).tissues] == ["femur", "tibia"]


def test_prompts_from_labels_surround_each_tissue_on_every_slice_it_is_on(small_study, make_bones, tmp_path):
    small_study.add("a")
    options = _options(tmp_path, prompts=f"labels:{small_study.labels}", tissues=("tibia",))
    source = prompt_source(options)
    volume, _ = read_volume(small_study.images / "a.nii.gz")
    prompts = given_prompts(_series(small_study.images / "a.nii.gz"), volume, options, source)
    truth = read_label_map(small_study.labels / "a.nii.gz").values == 5
    assert sorted({p.slice_index for p in prompts}) == np.flatnonzero(truth.any(axis=(0, 1))).tolist()
    for prompt in prompts:
        rows, columns = np.nonzero(truth[:, :, prompt.slice_index])
        expected = (columns.min(), rows.min(), columns.max(), rows.max())
        assert np.abs(np.array(prompt.box.xyxy) - expected).max() <= 0.05 * 12
        assert (prompt.tissue_index, prompt.source) == (5, "labels")


def test_a_cases_inputs_are_its_own_image_and_labels_and_no_other_cases(small_study, tmp_path):
    small_study.add("a")
    small_study.add("b", shift_px=1)
    source = prompt_source(_options(tmp_path, prompts=f"labels:{small_study.labels}"))
    a = _series(small_study.images / "a.nii.gz")
    first = case_inputs_sha256(a, source, input_sha256(a))
    (small_study.labels / "b.nii.gz").write_bytes(b"changed")
    assert case_inputs_sha256(a, source, input_sha256(a)) == first
    (small_study.labels / "a.nii.gz").write_bytes(b"changed")
    assert case_inputs_sha256(a, source, input_sha256(a)) != first
    (small_study.labels / "a.nii.gz").rename(small_study.labels / "a_seg.nii.gz")
    assert case_inputs_sha256(a, source, input_sha256(a)) != first
    (small_study.labels / "a_dseg.nii.gz").write_bytes(b"two")
    with pytest.raises(InputError, match="2 label volumes for case a"):
        case_inputs_sha256(a, source, input_sha256(a))
