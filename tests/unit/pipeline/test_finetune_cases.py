from __future__ import annotations

import nibabel
import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.io.tables import write_tissue_table
from msksam_cli.pipeline.finetune_cases import read_case, sound_cases, subject_of, validation_subjects
from msksam_cli.pipeline.finetune_options import FinetuneOptions

AFFINE = np.diag([0.5, 0.7, 3.0, 1.0])
SHAPE = (12, 10, 5)
TABLE = TissueTable((Tissue(2, "femur", group="bone"), Tissue(5, "tibia", group="bone")))


class _Folder:
    """A folder of cases; `add` writes one, sound unless told otherwise."""

    def __init__(self, root, table=TABLE):
        self.root = root
        self.count = 0
        if table:
            root.mkdir(exist_ok=True)
            write_tissue_table(root / "labels.tsv", table)

    def add(self, name, *, values=(2, 5), affine=AFFINE, seed=None, flat=False, write_as=np.uint8):
        grid = Grid(SHAPE, AFFINE)
        self.count += 1
        grey = np.random.default_rng(self.count if seed is None else seed).normal(100, 9, SHAPE).astype(np.float32)
        write_volume(self.root / "images" / f"{name}.nii.gz", Volume(grey * (not flat), grid), form_from_grid(grid))
        labels = np.zeros(SHAPE, write_as)
        for number, value in enumerate(values):
            labels[2 + 4 * number : 5 + 4 * number, 3:8, 1:4] = value
        path = self.root / "labels" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.Nifti1Image(labels, affine).to_filename(path)
        return self


def _sound(folder, **changes):
    return sound_cases(FinetuneOptions(folder.root, folder.root / "m.safetensors", **changes))


@pytest.fixture
def folder(tmp_path):
    return _Folder(tmp_path / "cases")


def test_every_problem_of_every_case_is_told_at_once(folder):
    moved = AFFINE.copy()
    moved[0, 3] = 2.0
    folder.add("good").add("strange", values=(2, 9)).add("half", values=(2.5,), write_as=np.float32)
    folder.add("empty", values=()).add("moved", affine=moved).add("flat", flat=True)
    with pytest.raises(InputError) as refused:
        _sound(folder)
    message = refused.value.message
    assert message.startswith("5 problems: ")
    for told in (
        "strange: label values [9] are not in the tissue table",
        "half: labels are not integers",
        "empty: no voxel is labelled",
        "moved: image and labels lie on different grids: corners are up to 4.00 voxels apart",
        "flat: the image has one intensity everywhere",
    ):
        assert told in message
    assert "good" not in message
    assert "nothing was trained" in refused.value.hint


def test_a_case_without_a_wanted_tissue_is_refused_and_others_labels_are_not_looked_at(folder):
    folder.add("a").add("b").add("c", values=(2,))
    with pytest.raises(InputError, match="1 problem: c: no voxel of a wanted tissue"):
        _sound(folder, tissues=("tibia",))
    assert _sound(folder, tissues=("femur",)).tissues.indices == (2,)
    with pytest.raises(UsageError, match="unknown tissue 'patella'"):
        _sound(folder, tissues=("patella",))


def test_one_subject_cannot_be_split(folder):
    folder.add("k1_left").add("k1_right")
    assert len(_sound(folder).validation) == 1
    with pytest.raises(InputError, match="one subject alone"):
        _sound(folder, subject="^[^_]+")


def test_a_name_in_which_no_subject_is_found_is_told(folder):
    folder.add("k1_left").add("k2_left").add("other")
    with pytest.raises(InputError, match="other: --subject finds no subject"):
        _sound(folder, subject=r"^k\d")


def test_one_image_under_two_subjects_is_refused_and_within_one_it_is_not(folder):
    folder.add("k1_a", seed=7).add("k1_b", seed=7).add("k2_a", seed=7).add("k3_a")
    with pytest.raises(InputError, match="1 problem: k2_a: its image is that of k1_a, another subject"):
        _sound(folder, subject="^[^_]+")


def test_without_a_table_labels_that_differ_from_case_to_case_are_refused(tmp_path):
    bare = _Folder(tmp_path / "bare", table=None).add("a").add("b").add("c", values=(2,))
    with pytest.raises(InputError, match=r"c: no label 5, which other cases have, and no table \(labels.tsv\)"):
        _sound(bare)
    write_tissue_table(tmp_path / "names.tsv", TABLE)
    found = _sound(bare, labels_table=tmp_path / "names.tsv")
    assert [tissue.name for tissue in found.tissues] == ["femur", "tibia"]


def test_without_a_table_equal_labels_are_named_by_their_numbers(tmp_path):
    found = _sound(_Folder(tmp_path / "bare", table=None).add("a").add("b"))
    assert [tissue.name for tissue in found.tissues] == ["label-2", "label-5"]
    assert found.table is None


def test_long_lists_of_problems_are_cut(folder):
    for number in range(25):
        folder.add(f"e{number:02d}", values=())
    with pytest.raises(InputError, match=r"25 problems: .*; and 5 more"):
        _sound(folder)


def test_all_cases_of_a_subject_are_on_one_side_of_the_split(folder):
    for subject in "abcde":
        for side in ("left", "right"):
            folder.add(f"{subject}_{side}")
    (folder.root / "labels" / "a_left.nii.gz").rename(folder.root / "labels" / "z.nii.gz")
    found = _sound(folder, subject="^[^_]+", validation=0.4)
    learnt, kept = ({case.subject for case in part} for part in (found.training, found.validation))
    assert (len(learnt), len(kept)) == (3, 2)
    assert not learnt & kept
    assert len(found.training) + len(found.validation) == 9
    assert set(found.unmatched) == {"a_left", "z"}


def test_another_split_or_another_voxel_is_another_set(folder):
    for name in "abcdef":
        folder.add(name)
    hashes = {_sound(folder).sha256, _sound(folder, seed=1).sha256}
    folder.add("f", seed=99)
    assert len(hashes | {_sound(folder).sha256}) == 3


@pytest.mark.parametrize(
    ("count", "share", "kept"), [(2, 0.2, 1), (2, 0.9, 1), (10, 0.2, 2), (5, 0.01, 1), (7, 0.5, 4)]
)
def test_validation_gets_its_share_at_least_one_and_never_all(count, share, kept):
    subjects = [f"s{number}" for number in range(count)]
    found = validation_subjects(subjects, share, 3)
    assert len(found) == kept
    assert found == validation_subjects(subjects, share, 3) <= set(subjects)


def test_subjects_are_found_by_match_or_by_group():
    assert subject_of("P012-knee", r"^P\d+") == "P012"
    assert subject_of("site3_P012", r"_(P\d+)") == "P012"
    assert subject_of("abc", "x") == ""


def test_labels_stored_in_another_order_of_axes_are_put_in_the_images(folder):
    folder.add("a")
    values = np.zeros(SHAPE, np.uint8)
    values[2:5, 3:8, 1:4], values[6:9, 3:8, 1:4] = 2, 5
    flipped = AFFINE.copy()
    flipped[:, 0] *= -1
    flipped[0, 3] = 0.5 * (SHAPE[0] - 1)
    other = Grid(SHAPE, flipped)
    path = folder.root / "labels" / "a.nii.gz"
    write_label_map(path, LabelMap(values[::-1], other, TABLE), form_from_grid(other))
    files = next(iter(_sound_files(folder)))
    volume, labels = read_case(files, TABLE)
    assert np.array_equal(labels.values, values)
    assert labels.grid is volume.grid


def _sound_files(folder):
    folder.add("b")
    found = _sound(folder)
    return [case.files for case in (*found.training, *found.validation) if case.files.name == "a"]


def test_cases_a_review_rejects_are_not_even_looked_at(folder, tmp_path):
    folder.add("a").add("b").add("c").add("empty", values=())
    review = tmp_path / "review.csv"
    review.write_text("case,decision\nempty,reject\nb,accept\n")
    found = _sound(folder, exclude=review)
    assert sorted(case.files.name for case in (*found.training, *found.validation)) == ["a", "b", "c"]
    with pytest.raises(InputError, match="empty: no voxel is labelled"):
        _sound(folder)
