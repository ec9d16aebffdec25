from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msksam_cli.errors import EnvironmentFault
from msksam_cli.io.atomic import (
    TEMPORARY_PREFIX,
    atomic_folder,
    atomic_path,
    clean_temporaries,
    remove_file,
    write_atomic,
    write_text,
)


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_appears_whole_readable_by_others_and_alone(tmp_path):
    target = tmp_path / "new" / "folder" / "a.txt"
    write_text(target, "Bröckchen\n")
    assert target.read_bytes() == "Bröckchen\n".encode()
    assert target.stat().st_mode & 0o777 == 0o644
    assert names_in(target.parent) == ["a.txt"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    target = tmp_path / "a.nii.gz"
    target.write_bytes(b"old")
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(TEMPORARY_PREFIX)
        assert temporary.name.endswith(".nii.gz")
    assert target.read_bytes() == b"new"
    assert names_in(tmp_path) == ["a.nii.gz"]


@pytest.mark.parametrize("failure", [ValueError("mine"), KeyboardInterrupt(), SystemExit(143)], ids=str)
def test_a_failing_writer_or_a_signal_leaves_the_old_file_and_no_other(failure, tmp_path):
    target = tmp_path / "a.csv"
    target.write_text("old")

    def write(stream):
        stream.write(b"half")
        raise failure

    with pytest.raises(type(failure)):
        write_atomic(target, write)
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["a.csv"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_fault_of_the_disk_is_told_by_its_reason_and_leaves_no_part(call, code, reason, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(EnvironmentFault, match=f"cannot write a.json: {reason}") as raised:
        write_text(tmp_path / "a.json", "{}")
    assert raised.value.exit_code == 5
    assert str(tmp_path) not in str(raised.value)
    monkeypatch.undo()
    assert names_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_a_fault_of_the_environment(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match=r"cannot write a\.txt"):
        write_text(tmp_path / "file" / "a.txt", "")


def test_the_longest_name_a_file_may_have_can_be_written(tmp_path):
    target = tmp_path / ("k" * 240 + ".nii.gz")
    write_text(target, "x")
    assert names_in(tmp_path) == [target.name]


def test_what_a_killed_process_left_is_removed_at_any_depth(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from msksam_cli.io.atomic import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as path: path.write_text('half'); os._exit(9)"
    )
    target = tmp_path / "labels" / "a.nii.gz"
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False, timeout=60).returncode == 9
    assert [name.startswith(TEMPORARY_PREFIX) for name in names_in(target.parent)] == [True]
    (target.parent / "b.nii.gz").write_text("kept")
    assert clean_temporaries(tmp_path) == 1
    assert names_in(target.parent) == ["b.nii.gz"]
    assert clean_temporaries(tmp_path / "absent") == 0


def test_what_a_living_process_is_writing_is_left_alone(tmp_path):
    with atomic_path(tmp_path / "a.txt") as ours:
        living = Path(str(ours).replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
        living.write_text("")
        assert clean_temporaries(tmp_path) == 0
        ours.write_text("done")
    assert names_in(tmp_path) == sorted(["a.txt", living.name])


def test_files_of_another_machine_and_of_an_earlier_process_with_this_number_go_by_their_age(tmp_path):
    foreign = tmp_path / f"{TEMPORARY_PREFIX}00000000-1-abc.txt"
    unnamed = tmp_path / f"{TEMPORARY_PREFIX}abc"
    with atomic_path(tmp_path / "a.txt") as ours:
        reused = ours.with_name(ours.name + "x")
        for path, age_s in ((foreign, 3600), (unnamed, 90_000), (reused, 3600)):
            path.write_text("")
            os.utime(path, (time.time() - age_s,) * 2)
        assert clean_temporaries(tmp_path) == 2
        assert foreign.exists()
        assert not unnamed.exists()
        assert not reused.exists()


def test_removing_a_file_that_is_not_there_is_fine_and_a_folder_is_not(tmp_path):
    remove_file(tmp_path / "absent")
    (tmp_path / "folder").mkdir()
    with pytest.raises(EnvironmentFault, match="cannot remove folder"):
        remove_file(tmp_path / "folder")


def filled(folder, **files):
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)


def test_a_folders_files_appear_when_all_are_written(tmp_path):
    target = tmp_path / "new" / "folder"
    with atomic_folder(target, "seal") as temporary:
        for name in ("seal", "a", "z"):
            (temporary / name).write_text(name)
        assert temporary.parent == target
        assert names_in(target) == sorted([temporary.name, "a", "seal", "z"])
    assert names_in(target) == ["a", "seal", "z"]
    assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {0o644}


@pytest.mark.parametrize("failure", [ValueError("mine"), KeyboardInterrupt(), SystemExit(143)], ids=str)
def test_a_failing_writer_leaves_a_folder_as_it_was_and_no_new_one(failure, tmp_path):
    old = tmp_path / "old"
    filled(old, seal="old", a="old")

    def write(target):
        with atomic_folder(target, "seal") as temporary:
            (temporary / "seal").write_text("half")
            raise failure

    for target in (old, tmp_path / "new"):
        with pytest.raises(type(failure)):
            write(target)
    assert names_in(tmp_path) == ["a", "old", "seal"]
    assert (old / "seal").read_text() == "old"


def test_a_folder_whose_files_are_half_replaced_has_no_seal(tmp_path):
    target = tmp_path / "old"
    filled(target, seal="old", a="old")
    (target / "b").mkdir()
    (target / "b" / "in the way").write_text("")

    def write():
        with atomic_folder(target, "seal") as temporary:
            for name in ("a", "b", "seal"):
                (temporary / name).write_text("new")

    with pytest.raises(EnvironmentFault, match="cannot write old"):
        write()
    assert not (target / "seal").exists()
    assert names_in(target) == ["a", "b", "in the way"]


def test_a_temporary_folder_of_a_killed_run_is_cleaned(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from msksam_cli.io.atomic import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1]), 'seal') as t: (t / 'half').write_text('x'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(names_in(tmp_path)) == 2
    assert clean_temporaries(tmp_path) == 1
    assert names_in(tmp_path) == []
