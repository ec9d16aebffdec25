"""The reading process may die; the run does not."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from pydicom.dataset import Dataset

from msksam_cli.errors import SeriesError
from msksam_cli.io import dicom_reader
from msksam_cli.io.dicom_frames import FileHeader
from msksam_cli.io.dicom_reader import Worker, WorkerDiedError, read_headers, read_voxels


@pytest.fixture
def worker():
    started = Worker()
    yield started
    started.close()


def header_request(path, memory_bytes=512 << 20):
    return {"task": "header", "path": str(path), "memory_bytes": memory_bytes}


def process_of(worker):
    reply, _ = worker.ask(header_request("/dev/null"))
    assert reply["verdict"] == "skip"
    return worker._process.pid


def test_a_killed_worker_is_an_error_and_not_a_crash(worker):
    os.kill(process_of(worker), signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match=r"crashed the decoder \(signal 9\)"):
        worker.ask(header_request("/dev/null"))


def test_a_worker_that_hangs_ends_itself(worker, tmp_path):
    os.kill(process_of(worker), signal.SIGALRM)  # what its own clock sends
    with pytest.raises(WorkerDiedError, match="took too long"):
        worker.ask(header_request("/dev/null"))


def test_memory_beyond_the_limit_refuses_the_series(monkeypatch, synthetic, tmp_path):
    folder = synthetic(slices=4, rows=1024, columns=1024).write(tmp_path)
    slices = [(folder / f"IM{index:03d}", 0) for index in range(4)]
    read_voxels(slices, 4 << 20)
    monkeypatch.setattr(dicom_reader, "_CONVERT_MEMORY_BYTES", 0)
    with pytest.raises(SeriesError, match=r"pixels cannot be decoded \(more memory than it may take\)"):
        read_voxels(slices, 0)


def test_memory_beyond_the_limit_refuses_the_header(worker, synthetic, save_dicom, tmp_path):
    ds, item = synthetic().enhanced(), Dataset()
    item.add_new(0x00091010, "OB", bytes(1 << 25))
    ds.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [item]
    path = save_dicom(ds, tmp_path / "a")
    reply, _ = worker.ask(header_request(path, memory_bytes=1 << 20))
    assert FileHeader.from_json(reply).reason == "DICOM header cannot be parsed (more memory than it may take)"


def test_many_files_are_read_in_order_by_several_workers(synthetic, tmp_path):
    folder = synthetic(slices=6).write(tmp_path)
    paths = [folder / f"IM{index % 6:03d}" for index in range(300)]
    headers = read_headers(paths)
    positions = [header.frames[0].position_mm for header in headers]
    assert positions == positions[:6] * 50
    assert len(set(positions)) == 6


def test_headers_survive_the_pipe(synthetic, save_dicom, tmp_path):
    (header,) = read_headers([save_dicom(synthetic().dataset(2), tmp_path / "a")])
    assert FileHeader.from_json(header.to_json()) == header
    np.testing.assert_allclose(header.frames[0].position_mm, synthetic().position_mm(2), atol=1e-6)


def test_parsers_that_raise_refuse_their_file_by_type_name_alone(synthetic, save_dicom, tmp_path):
    path = save_dicom(synthetic().dataset(0), tmp_path / "a")
    content = bytearray(path.read_bytes())
    start = content.find(b"\x28\x00\x10\x00US")
    content[start + 4 : start + 6] = b"Q!"
    path.write_bytes(content)
    (header,) = read_headers([path])
    assert header.verdict == "refuse"
    assert "DICOM header cannot be parsed (" in header.reason
    assert str(tmp_path) not in header.reason
