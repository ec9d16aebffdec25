from __future__ import annotations

import pytest

from msksam_cli.cluster.settings import ClusterSettings, read_settings
from msksam_cli.core.cores import CORES_VARIABLE, cores
from msksam_cli.errors import UsageError

SLURM = """
kind = "slurm"
workers = 8
cores = 4
memory_gb = 16
gpus = 1
walltime_minutes = 720
job_options = ["--partition=gpu", "--gres=gpu:1"]
prologue = ["source venv/bin/activate"]
network_interface = "ib0"
"""


def _read(tmp_path, text):
    path = tmp_path / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def test_a_file_says_all_that_settings_hold(tmp_path):
    assert _read(tmp_path, SLURM) == ClusterSettings(
        kind="slurm",
        workers=8,
        cores=4,
        memory_gb=16,
        gpus=1,
        walltime_minutes=720,
        job_options=("--partition=gpu", "--gres=gpu:1"),
        prologue=("source venv/bin/activate",),
        network_interface="ib0",
    )


def test_an_empty_file_means_processes_on_this_machine(tmp_path):
    assert _read(tmp_path, "") == ClusterSettings()


def test_workers_here_share_the_cores_and_each_host_has_one_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr("msksam_cli.cluster.settings.cores", lambda: 8)
    assert (ClusterSettings().worker_count, ClusterSettings().worker_cores) == (4, 2)
    assert (ClusterSettings(workers=8).worker_count, ClusterSettings(workers=8).worker_cores) == (8, 1)
    assert (ClusterSettings(cores=3).worker_count, ClusterSettings(cores=3).worker_cores) == (2, 3)
    by_ssh = ClusterSettings("ssh", hosts=("a", "b", "c"))
    assert (by_ssh.worker_count, by_ssh.worker_cores) == (3, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "pbs"', "unknown kind of cluster 'pbs'"),
        ("worker = 3", "unknown keys: worker"),
        ("workers = 0", "workers is 0"),
        ('workers = "2"', "workers in cluster.toml is '2'"),
        ("workers = true", "workers in cluster.toml is True"),
        ("gpus = 2", "gpus is 2"),
        ('kind = "ssh"', "names no hosts"),
        ('kind = "ssh"\nhosts = "a"', "hosts in cluster.toml is no list"),
        ('kind = "slurm"', "names no memory"),
        ("kind = ", "is not TOML"),
        ("gpus = 1\nworkers = 2", "share a machine's first GPU"),
        ('kind = "slurm"\nmemory_gb = 8\nwalltime_minutes = 10', "no time for a case of 10"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        _read(tmp_path, text)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "none.toml")


def test_a_process_uses_no_more_cores_than_it_is_told(monkeypatch):
    there = cores()
    monkeypatch.setenv(CORES_VARIABLE, "1")
    assert cores() == 1
    monkeypatch.setenv(CORES_VARIABLE, str(there + 5))
    assert cores() == there
    monkeypatch.setenv(CORES_VARIABLE, "many")
    assert cores() == there
