"""Cases read one ahead, in a thread of their own."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.errors import SeriesError
from msksam_cli.io.dicom_reader import _borrowed_worker, _lent
from msksam_cli.io.nifti import read_volume, write_volume
from msksam_cli.io.study import input_sha256, read_series, scan_study
from msksam_cli.pipeline import reading
from msksam_cli.pipeline.map_options import MapOptions
from msksam_cli.pipeline.maps import case_maps, map_source
from msksam_cli.pipeline.reading import CaseItem, read_ahead


@pytest.fixture
def items(small_study) -> list[CaseItem]:
    """Five cases of a study."""
    for number, name in enumerate("abcde"):
        small_study.add(name, shift_px=number)
    series = scan_study(small_study.images).series
    maps = case_maps(map_source(MapOptions(), series), series)
    return [CaseItem(one, of_case) for one, of_case in zip(series, maps, strict=True)]


def _always(_: CaseItem) -> bool:
    return True


def test_items_keep_their_order_and_give_what_reading_them_gives(items):
    with read_ahead(items, _always) as ready:
        given = [(item.case, *item.read()) for item in ready]
    assert [case for case, _, _ in given] == [item.case for item in items]
    for before, (_, volume, form) in zip(items, given, strict=True):
        direct, direct_form = read_series(before.series)
        assert np.array_equal(volume.intensities, direct.intensities)
        assert repr(form) == repr(direct_form)
        assert volume.sha256 == direct.sha256


def test_one_is_read_ahead_and_no_more(items, monkeypatch):
    begun: list[str] = []
    monkeypatch.setattr(reading, "read_series", lambda series: begun.append(series.case) or read_series(series))
    with read_ahead(items, _always) as ready:
        for number, item in enumerate(ready):
            item.read()
            assert begun[: number + 1] == [one.case for one in items[: number + 1]]
            assert len(begun) <= number + 2
    assert begun == [item.case for item in items]


def test_the_first_is_read_before_anything_is_asked_for(items, monkeypatch):
    reached = threading.Event()
    monkeypatch.setattr(reading, "read_series", lambda series: reached.set() or read_series(series))
    with read_ahead(items, _always):
        assert reached.wait(30)


def test_what_is_not_wanted_is_read_only_when_asked(items, monkeypatch):
    begun: list[str] = []
    monkeypatch.setattr(reading, "read_series", lambda series: begun.append(series.case) or read_series(series))
    with read_ahead(items, lambda item: item.case == items[3].case) as ready:
        given = list(ready)
        given[3].read()
        assert begun == [items[3].case]
        given[0].read()
    assert begun == [items[3].case, items[0].case]


def test_a_case_that_cannot_be_read_says_so_when_it_is_its_turn(items):
    path = items[1].series.files[0]
    path.write_bytes(path.read_bytes()[:-200])
    with read_ahead(items, _always) as ready:
        for number, item in enumerate(ready):
            if number == 1:
                with pytest.raises(SeriesError):
                    item.read()
            else:
                assert item.read()[0].sha256 == read_series(item.series)[0].sha256


def test_the_image_is_the_file_that_writing_the_volume_gives(items, tmp_path, monkeypatch):
    monkeypatch.setattr(CaseItem, "keeps_image", property(lambda item: True))
    with read_ahead(items[:1], _always) as ready:
        (ahead,) = ready
        volume, form = ahead.read()
        packed = ahead.image(volume, form)
    write_volume(tmp_path / "direct.nii.gz", volume, form)
    assert packed == (tmp_path / "direct.nii.gz").read_bytes()
    assert packed == replace(ahead, begun=None).image(volume, form)
    (tmp_path / "packed.nii.gz").write_bytes(packed)
    assert np.array_equal(read_volume(tmp_path / "packed.nii.gz")[0].intensities, volume.intensities)


def test_a_file_that_is_replaced_while_it_waits_is_not_vouched_for(items):
    path = items[0].series.files[0]
    before = input_sha256(items[0].series)
    with read_ahead(items[:1], _always) as ready:
        (item,) = ready
        volume, _ = item.read()
        path.write_bytes(items[1].series.files[0].read_bytes())
        assert item.images_sha256() == before != input_sha256(item.series)
    assert volume.sha256 != read_series(item.series)[0].sha256


def test_a_volume_lives_no_longer_than_the_work_on_it(items, monkeypatch):
    made = []

    def noted(series):
        volume, form = read_series(series)
        made.append(weakref.ref(volume))
        return volume, form

    monkeypatch.setattr(reading, "read_series", noted)
    given = []
    with read_ahead(items, _always) as ready:
        for item in ready:
            given.append(item)  # as whoever loops over the results holds on to items
            volume, form = item.read()
            item.begun.images_sha256.result()
            alive = [ref() is not None for ref in list(made)]
            assert sum(alive[: len(given) - 1]) == 0, "volumes of cases that are done"
            assert sum(alive) <= 2
            del volume, form
    assert len(made) == len(given) == len(items)
    again, _ = given[0].read()
    assert again.sha256 == read_series(given[0].series)[0].sha256


def test_whoever_leaves_early_does_not_wait_for_the_decoder(synthetic, tmp_path):
    synthetic().write(tmp_path / "dicom")
    (series,) = scan_study(tmp_path / "dicom").series
    with _borrowed_worker() as worker:
        stopped = worker
    os.kill(stopped._process.pid, signal.SIGSTOP)
    maps = case_maps(map_source(MapOptions(), (series,)), [series])
    begun = time.monotonic()
    with read_ahead([CaseItem(series, maps[0])], _always) as ready:
        item = next(ready)
        while stopped not in _lent:
            time.sleep(0.01)
    with pytest.raises(SeriesError, match="crashed the decoder"):
        item.read()
    assert time.monotonic() - begun < 5
    assert stopped._process.returncode == -signal.SIGKILL


def test_without_cases_there_is_nothing_to_read():
    with read_ahead([], _always) as ready:
        assert list(ready) == []
