"""Commands on workers give what they give in one process."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest
from distributed import LocalCluster, Nanny

from msksam_cli.errors import EnvironmentFault, UnlikeOthers, UsageError
from msksam_cli.io.study import scan_study
from msksam_cli.io.tables import read_csv
from msksam_cli.pipeline.ahead import CacheMark, EncodeAhead, PlaceAhead
from msksam_cli.pipeline.case_work import CaseWork, Failed, JobFacts, forget_job, fresh_facts
from msksam_cli.pipeline.evaluate import EvaluateOptions, evaluate
from msksam_cli.pipeline.executors import ExecutorOptions
from msksam_cli.pipeline.maps import case_maps, map_source
from msksam_cli.pipeline.measure import MeasureOptions, run_measure
from msksam_cli.pipeline.prompt_source import PromptSource, prompt_source
from msksam_cli.pipeline.reading import CaseItem
from msksam_cli.pipeline.run_record import forget_case
from msksam_cli.pipeline.segment import _common, run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

pytestmark = pytest.mark.filterwarnings("default")  # of dask and tornado, which are not ours

PLAIN = {
    "threads_per_worker": 1,
    "dashboard_address": "127.0.0.1:0",
    "scheduler_kwargs": {"dashboard": False},
    "silence_logs": logging.CRITICAL,
}


@pytest.fixture(scope="module")
def scheduler():
    """Address of a scheduler with two workers of one kind."""
    with LocalCluster(
        n_workers=2,
        **PLAIN,
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def options(small_study, small_checkpoint, tmp_path):
    """Options that segment three small cases."""
    for number, name in enumerate("abc"):
        small_study.add(name, shift_px=number)
    return SegmentOptions(
        small_study.images,
        ("bone",),
        tmp_path / "out",
        model=str(small_checkpoint),
        prompts=f"labels:{small_study.labels}",
        device="cpu",
        cache=tmp_path / "cache",
    )


def _labels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "labels").iterdir()}


def _without_seconds(path: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_csv(path)]


def test_labels_and_tables_from_workers_are_those_from_one_process(options, scheduler, tmp_path, monkeypatch):
    local = run_segment(options)
    monkeypatch.chdir(tmp_path)  # workers work elsewhere: relative paths must reach them whole
    there = dataclasses.replace(options, study=Path("study"), output=Path("there"), cache=Path("other"))
    told = []
    run = run_segment(there, ExecutorOptions("dask", scheduler), told.append)
    assert (run.exit_code, [one.case for one in run.outcomes]) == (0, ["a", "b", "c"])
    assert _labels(run.folder) == _labels(local.folder)
    for table in ("metrics.csv", "slices.csv", "qc.csv"):
        assert _without_seconds(tmp_path / "there" / table) == _without_seconds(options.output_folder / table)
    assert sorted(event["case"] for event in told) == ["a", "b", "c"]
    assert [event["done"] for event in told] == [1, 2, 3]
    assert not (tmp_path / "there" / "progress.json").exists()
    again = run_segment(there, ExecutorOptions("dask", scheduler))
    assert [one.resumed for one in again.outcomes] == [True, True, True]


def test_a_case_that_cannot_be_segmented_fails_on_a_worker_with_the_same_words(options, scheduler, tmp_path):
    (tmp_path / "truth" / "labels" / "b.nii.gz").unlink()
    local = run_segment(options)
    run = run_segment(dataclasses.replace(options, output=tmp_path / "there"), ExecutorOptions("dask", scheduler))
    assert [one for one in run.outcomes if isinstance(one, Failed)] == [
        one for one in local.outcomes if isinstance(one, Failed)
    ]
    assert run.exit_code == local.exit_code == 3
    assert json.loads((tmp_path / "there" / "run.json").read_text())["refused"][0]["case"] == "b"


def test_workers_with_a_gpu_encode_and_the_others_find_it(options, tmp_path):
    local = run_segment(options)
    with LocalCluster(
        n_workers=1,
        **PLAIN,
        resources={"GPU": 1},
    ) as cluster:
        cluster.worker_spec["plain"] = {"cls": Nanny, "options": {"nthreads": 1}}
        cluster.sync(cluster._correct_state)
        where = ExecutorOptions("dask", cluster.scheduler_address)
        there = dataclasses.replace(options, output=tmp_path / "there", cache=tmp_path / "other")
        run = run_segment(there, where)
        for change, message in (
            ({"use_cache": False}, "share a cache"),
            ({"precision": "fp16"}, "cannot go on in fp16"),
        ):
            with pytest.raises(UsageError, match=message):
                run_segment(dataclasses.replace(there, **change), where)
    assert _labels(run.folder) == _labels(local.folder)
    records = [one.record for one in run.outcomes]
    assert all(record.slices_encoded == 0 and record.slices_cached > 0 for record in records)


def test_what_is_found_ahead_by_an_atlas_is_all_that_the_work_asks_for(options, small_atlas):
    options = dataclasses.replace(options, prompts="atlas", atlas=str(small_atlas))
    (series, *_) = scan_study(options.study).series
    item = CaseItem(series, case_maps(map_source(options.maps, (series,)), [series])[0])
    facts = fresh_facts(options)
    try:
        PlaceAhead(options, facts.setup_sha256)(item)
        EncodeAhead(options, facts.setup_sha256)(item)
        done = CaseWork(options, facts)(item)
        assert (done.record.slices_encoded, done.record.slices_cached > 0) == (0, True)
        assert done.record.seconds["place"] < 1.0
        encoded = len(list((options.cache).rglob("*.safetensors")))
        forget_case(options.output_folder, series.case, [])
        assert EncodeAhead(options, facts.setup_sha256)(item) is None
        assert len(list((options.cache).rglob("*.safetensors"))) == encoded
        with pytest.raises(UnlikeOthers, match="torch"):
            CaseWork(options, dataclasses.replace(facts, versions={**facts.versions, "torch": "1.0"}))(item)
    finally:
        forget_job()


def test_a_cache_that_is_not_shared_is_noticed(tmp_path):
    mark = CacheMark.new(tmp_path / "one")
    mark.leave()
    mark.find()
    with pytest.raises(EnvironmentFault, match="does not see the cache"):
        dataclasses.replace(mark, cache=tmp_path / "other").find()
    with pytest.raises(EnvironmentFault, match="does not see the cache"):
        CacheMark.new(tmp_path / "one").find()


def test_workers_that_differ_are_named_with_what_differs(options):
    source: PromptSource = prompt_source(options)
    plain = {"model_sha256": "aa", "prompts_sha256": source.sha256}
    first, same = JobFacts(plain, {"torch": "2.10"}), JobFacts(dict(plain), {"torch": "2.10"})
    assert _common({"node1/0": first, "node2/1": same}, source) == first
    with pytest.raises(EnvironmentFault, match=r"node1/0 and node2/1 differ: torch 2\.10 and 2\.11"):
        _common({"node1/0": first, "node2/1": JobFacts(plain, {"torch": "2.11"})}, source)
    with pytest.raises(EnvironmentFault, match="differ: model_sha256 aa and bb"):
        _common({"node1/0": first, "node2/1": JobFacts({**plain, "model_sha256": "bb"}, {"torch": "2.10"})}, source)
    with pytest.raises(EnvironmentFault, match="not those of this process"):
        _common({"node1/0": JobFacts({**plain, "prompts_sha256": "other"}, {})}, source)


def test_evaluation_and_measures_from_workers_are_those_from_one_process(small_study, options, scheduler, tmp_path):
    where = ExecutorOptions("dask", scheduler)
    run_segment(options)
    for place, asked in (("local", None), ("there", where)):
        evaluate(EvaluateOptions(options.output_folder, small_study.labels, tmp_path / place / "e"), asked)
        run_measure(MeasureOptions(options.output_folder, output=tmp_path / place / "m", thickness_maps=True), asked)
    names = sorted(path.relative_to(tmp_path / "local") for path in (tmp_path / "local").rglob("*.csv"))
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("spark",), "unknown executor 'spark'"),
        (("local", "tcp://a:1"), "Give --executor dask"),
        (("dask", "tcp://a:1", Path("c.toml")), "contradict each other"),
    ],
)
def test_options_that_contradict_each_other_are_refused(asked, message):
    with pytest.raises(UsageError, match=message):
        ExecutorOptions(*asked)
