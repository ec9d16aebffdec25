"""Several processes train as one that takes their batches in turn."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from msksam_cli.sam.model import ARCHITECTURES, build_sam
from msksam_cli.training.dataset import PhantomBatches
from msksam_cli.training.distributed import Peers, peers_of, together
from msksam_cli.training.loop import Recipe, Stage, train

SCRIPT = """
import sys
from pathlib import Path

import torch

from msksam_cli.sam.model import ARCHITECTURES, build_sam
from msksam_cli.training.dataset import PhantomBatches
from msksam_cli.training.distributed import peers_of, together
from msksam_cli.training.loop import Recipe, Stage, Validation, train

folder = Path(sys.argv[1])
torch.set_num_threads(1)
peers = peers_of()
torch.manual_seed(peers.rank)
sam = build_sam("msksam_small", 32)
if not peers.rank:
    torch.manual_seed(1)
    sam = build_sam("msksam_small", 32)
recipe = Recipe((Stage(32, 1, 1, 2),), 1e-3, warmup_steps=1, decay_steps=2, bf16=False, rounds=2)


def dataset_of(stage):
    return PhantomBatches(
        [], lambda rng: None, side_px=32, images=1, questions=1, length=recipe.batches(peers.count), seed=9,
        shapes_share=1.0,
    )


def score(sam):
    assert peers.writes
    return 0.5


with together(peers, "cpu"):
    trained = train(
        sam, recipe, dataset_of, folder / "run", asking=ARCHITECTURES["msksam_small"].asking, workers=0, peers=peers,
        validation=Validation(score, 5, 5),
    )
    peers.wait()
parameters = {name: tensor.detach() for name, tensor in trained.named_parameters()}
torch.save(parameters, folder / f"{peers.rank}.pt")
state = torch.load(folder / "run" / "state.pt", weights_only=True)
if peers.writes:
    torch.save(state["average"], folder / "average.pt")
"""


def _two_processes(folder):
    """Averaged weights after the script above, and those each process ended with."""
    (folder / "script.py").write_text(SCRIPT)
    known = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(folder / "script.py"), str(folder),
        ],
        capture_output=True, text=True, check=False, timeout=300,
        env={**{key: value for key, value in os.environ.items() if key not in known}, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [torch.load(folder / name) for name in ("average.pt", "0.pt", "1.pt")]


def _one_process(folder, *, accumulate):
    """The same run in this process, with several batches in a step."""
    torch.manual_seed(1)
    sam = build_sam("msksam_small", 32)
    recipe = Recipe(
        (Stage(32, 1, 1, 2),), 1e-3, warmup_steps=1, decay_steps=2, accumulate=accumulate, bf16=False, rounds=2
    )
    batches = PhantomBatches(
        [], lambda rng: None, side_px=32, images=1, questions=1, length=recipe.batches(), seed=9, shapes_share=1.0
    )
    train(sam, recipe, lambda stage: batches, folder, asking=ARCHITECTURES["msksam_small"].asking, workers=0)
    return torch.load(folder / "state.pt")["average"]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_two_processes_train_like_one_that_takes_both_their_batches_in_each_step(tmp_path):
    torch.set_num_threads(1)
    both, first, second = _two_processes(tmp_path)
    one = _one_process(tmp_path / "one", accumulate=2)
    other = _one_process(tmp_path / "other", accumulate=1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first.keys() == both.keys() == one.keys()

    def apart(a, b):
        return max(float((a[name] - b[name]).abs().mean()) for name in a)

    assert apart(both, one) < 0.02 * apart(other, one)


def test_without_torchrun_there_is_one_process_that_waits_for_nobody():
    peers = peers_of({})
    assert (peers.rank, peers.count, peers.writes) == (0, 1, True)
    with together(peers, "cpu"):
        peers.wait()
        assert peers.from_first(0.25) == 0.25
    assert peers.device("auto") == "auto"


def test_the_first_of_many_writes():
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert peers_of(told) == Peers(5, 8, 1)
    assert not peers_of(told).writes
    assert peers_of({**told, "RANK": "0"}).writes
