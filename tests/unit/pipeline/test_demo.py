from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from msksam_cli.errors import InputError
from msksam_cli.io.nifti import read_label_map
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.io.tables import read_tissue_table
from msksam_cli.measure.regrid import reordered_labels
from msksam_cli.phantom.acquisition import Protocol, acquire_scan
from msksam_cli.phantom.knee import sample_knee_shape
from msksam_cli.phantom.sequences import SEQUENCES
from msksam_cli.pipeline import demo as module
from msksam_cli.pipeline.demo import DemoOptions, demo_text, run_demo
from msksam_cli.pipeline.echoes import first_echoes
from msksam_cli.pipeline.segment import run_segment


def _coarse_study(seed):
    """The demo's knee with few, large voxels and its series in another order than their names'."""
    shape = sample_knee_shape(np.random.default_rng(seed))
    wanted = (
        ("t2-multi-echo", Protocol("sagittal", 5.0, 14.0, 8.0, 6, (140.0, 120.0))),
        ("dess", Protocol("sagittal", 6.0, 14.0, 8.0, 4, (144.0, 144.0))),
        ("pd-fs-tse", Protocol("sagittal", 4.0, 12.0, 8.0, 8, (150.0, 130.0))),
    )
    return tuple(acquire_scan(shape, SEQUENCES[name], protocol, seed) for name, protocol in wanted)


@pytest.fixture
def coarse(monkeypatch, small_checkpoint, tmp_path):
    """The demo with a coarse knee, a random network and prompts from the truth it wrote itself."""

    def quick(options):
        truth = f"labels:{tmp_path / 'demo' / 'truth' / 'labels'}"
        return run_segment(dataclasses.replace(options, model=str(small_checkpoint), prompts=truth, use_cache=False))

    monkeypatch.setattr(module, "demo_study", _coarse_study)
    monkeypatch.setattr(module, "run_segment", quick)
    return tmp_path / "demo"


def test_the_demo_writes_a_study_its_truth_labels_and_an_evaluation_of_every_case(coarse):
    demo = run_demo(DemoOptions(coarse, seed=7, device="cpu"))
    assert demo.exit_code == 0, demo.run.outcomes
    series = first_echoes(scan_study(coarse / "study").series)
    assert [one.case for one in series] == [outcome.case for outcome in demo.run.outcomes]
    assert len(series) == 2
    tissues = read_tissue_table(coarse / "truth" / "labels.tsv")
    bones = {tissue.index for tissue in tissues.select(["bone"])}
    for one in series:
        volume, _ = read_series(one)
        truth = read_label_map(coarse / "truth" / "labels" / f"{one.case}.nii.gz", tissues)
        on_image = reordered_labels(truth, volume.grid)
        assert on_image is not None
        assert len(set(np.unique(on_image.values)) & bones) >= 3
        air = volume.intensities[on_image.values == 0].mean()
        assert volume.intensities[on_image.values > 0].mean() > 1.5 * air
    assert (coarse / "segmentation" / "report.html").is_file()
    assert (coarse / "evaluation" / "summary.csv").is_file()
    assert str(coarse / "segmentation" / "report.html") in demo_text(demo)


def test_the_demo_can_be_run_again_in_its_own_folder_with_another_knee(coarse):
    run_demo(DemoOptions(coarse, seed=7, device="cpu"))
    demo = run_demo(DemoOptions(coarse, seed=8, device="cpu"))
    assert demo.exit_code == 0
    cases = {outcome.case for outcome in demo.run.outcomes}
    evaluated = (coarse / "evaluation" / "per_case.csv").read_text().splitlines()[1:]
    assert {line.split(",")[0] for line in evaluated} == cases
    record = json.loads((coarse / "segmentation" / "run.json").read_text())
    assert {entry["case"] for entry in record["segmented"]} == cases


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files") as raised:
        run_demo(DemoOptions(tmp_path))
    assert "-o" in raised.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
