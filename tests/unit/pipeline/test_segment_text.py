from __future__ import annotations

import json
from pathlib import Path

from msksam_cli.core.series import FileRecord, Refusal, StudyScan
from msksam_cli.pipeline.case_work import Failed, Segmented
from msksam_cli.pipeline.run_record import CaseRecord, write_record
from msksam_cli.pipeline.segment_run import SegmentRun
from msksam_cli.pipeline.segment_text import run_json, run_text


def _segmented(folder, case, flags=(), *, resumed=False):
    metrics = [{"status": "complete"}, {"status": "complete"}, {"status": "cut_by_field_of_view"}]
    metrics = [{**row, "tissue": "femur"} for row in metrics]
    flagged = [{"flag": f} for f in flags]
    write_record(folder, CaseRecord(case, "s", "i", {}, metrics, flagged, slices_encoded=7, slices_cached=4))
    return Segmented(case, folder, resumed)


def _run(*outcomes, refused=(), planned=(), is_dry=False):
    scan = StudyScan((), tuple(refused), (FileRecord(Path("a"), "used"),))
    return SegmentRun(Path("out"), scan, outcomes, planned, 1.26, is_dry)


def test_each_case_has_a_line_and_the_last_counts_slices_of_this_run_only(tmp_path):
    run = _run(
        _segmented(tmp_path, "a", ["touches_border", "touches_border", "empty"]),
        _segmented(tmp_path, "b", resumed=True),
        Failed("c", "too few. Look at it"),
        refused=[Refusal("d", "cut short", "Copy it again")],
    )
    assert run_text(run).splitlines() == [
        "segmented  a  2 complete, 1 cut by field of view  doubts: touches_border ×2, empty",
        "kept       b  2 complete, 1 cut by field of view",
        "failed     c: too few. Look at it",
        "refused    d: cut short. Copy it again",
        "2 segmented (1 by an earlier run), 1 failed; 7 slices encoded, 4 from the cache; 1.3 s",
        "out",
    ]


def test_machines_get_the_same(tmp_path):
    run = _run(_segmented(tmp_path, "b", resumed=True), Failed("c", "x"), refused=[Refusal("d", "cut short")])
    told = json.loads(run_json(run))
    assert [case["state"] for case in told["cases"]] == ["kept", "failed"]
    assert (told["cases"][0]["slices_encoded"], told["exit_code"]) == (0, 3)
    assert told["refused"] == [{"case": "d", "reason": "cut short"}]


def test_a_plan_names_cases_refusals_and_folder_and_no_counts():
    run = _run(Failed("b", "no atlas shows the ankle"), planned=("a: femur",), is_dry=True)
    assert run_text(run).splitlines() == [
        "would segment  a: femur",
        "would refuse   b: no atlas shows the ankle",
        "into out",
    ]
    assert run.exit_code == 3


def test_the_exit_code_is_3_as_soon_as_one_image_was_not_segmented(tmp_path):
    done = _segmented(tmp_path, "a")
    assert _run(done).exit_code == 0
    assert _run(done, Failed("b", "x")).exit_code == 3
    assert _run(done, refused=[Refusal("d", "x")]).exit_code == 3
    refused_file = StudyScan((), (), (FileRecord(Path("a"), "refused", "x"),))
    assert SegmentRun(Path("out"), refused_file, (done,)).exit_code == 3
    skipped_file = StudyScan((), (), (FileRecord(Path("a"), "skipped", "x"),))
    assert SegmentRun(Path("out"), skipped_file, (done,)).exit_code == 0
