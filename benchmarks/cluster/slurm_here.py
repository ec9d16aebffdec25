"""A SLURM of one node on this machine, and `segment` on it through dask-jobqueue.

    python benchmarks/cluster/slurm_here.py [--cases N] [--kill]

Starts munge, slurmctld and slurmd of Debian's slurm-wlm from a folder of its own, as root, runs the small study of the
tests in this process, as jobs of dask-jobqueue, and as a plain array of two shards, and compares the labels and, of the
shards, the tables. With `--kill` a job is cancelled by `scancel
--signal=KILL` while cases are underway. Everything started is ended again.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robustness"))
from small_study import comparable, write_study

import msksam_cli
from msksam_cli.core.cores import cores
from msksam_cli.pipeline.executors import ExecutorOptions
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

NEEDED = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "scancel")
CONFIGURATION = """
ClusterName=here
SlurmctldHost={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
SlurmctldPort={first_port}
SlurmdPort={second_port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName={node} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=all Nodes={node} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""
CLUSTER = """
kind = "slurm"
workers = 2
cores = 1
memory_gb = 2
walltime_minutes = 30
wait_minutes = 3
network_interface = "lo"
job_options = ["--partition=all"]
prologue = ["export PYTHONPATH={path}"]
"""


@contextlib.contextmanager
def slurm(root: Path) -> Iterator[None]:
    """SLURM's daemons, for as long as the context lasts; commands find them by the environment."""
    node = platform.node().split(".")[0]
    for name in ("state", "spool"):
        (root / name).mkdir()
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20 - 1024
    settings = {"root": root, "node": node, "cpus": cores(), "memory_mb": memory_mb}
    (root / "slurm.conf").write_text(CONFIGURATION.format(**settings, first_port=17817, second_port=17818))
    (root / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    (root / "munge.key").write_bytes(os.urandom(1024))
    (root / "munge.key").chmod(0o400)
    os.environ["SLURM_CONF"] = str(root / "slurm.conf")
    munge = ["munged", "--foreground", "--force", f"--socket={root}/munge.socket", f"--key-file={root}/munge.key"]
    munge += [f"--log-file={root}/munge.log", f"--pid-file={root}/munge.pid", f"--seed-file={root}/munge.seed"]
    with contextlib.ExitStack() as stack:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", node]):
            said = stack.enter_context((root / f"{command[0]}.out").open("wb"))
            daemon = subprocess.Popen(command, stdout=said, stderr=said)
            stack.callback(_end, daemon)
            time.sleep(2)
            if daemon.poll() is not None:
                raise SystemExit(f"{command[0]} ended at once:\n{(root / (command[0] + '.out')).read_text()}")
        for _ in range(30):
            state = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout
            if state.strip().startswith(("idle", "mixed")):
                break
            time.sleep(1)
        else:
            raise SystemExit(f"the node is {state!r}:\n{(root / 'slurmd.log').read_text()[-2000:]}")
        yield


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def main() -> int:
    """Print how it went; 0 when the labels are equal and no case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--kill", action="store_true")
    asked = parser.parse_args()
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        raise SystemExit(f"not installed: {', '.join(missing)}; on Debian: apt-get install slurm-wlm munge")
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    root.chmod(0o755)
    options = write_study(root, asked.cases)
    before = time.monotonic()
    run_segment(options)
    local_s = time.monotonic() - before
    whole = comparable(options.output_folder)
    (root / "cluster.toml").write_text(CLUSTER.format(path=Path(msksam_cli.__file__).resolve().parents[1]))
    os.chdir(root)  # where jobs write what their workers say
    jobs = replace(options, output=root / "jobs", cache=root / "jobs-cache")
    with slurm(root):
        if asked.kill:
            threading.Thread(target=_kill_one, args=(root / "jobs" / "records",), daemon=True).start()
        before = time.monotonic()
        run = run_segment(jobs, ExecutorOptions("dask", cluster=root / "cluster.toml"))
        jobs_s = time.monotonic() - before
        shards = replace(options, output=root / "shards", cache=root / "shards-cache")
        before = time.monotonic()
        submit_array(shards, root, parts=2)
        shards_s = time.monotonic() - before
    found = comparable(jobs.output_folder)
    differ = [name for name, content in whole.items() if name.startswith("labels/") and found.get(name) != content]
    print(f"{asked.cases} cases: {local_s:.1f} s in this process, {jobs_s:.1f} s as jobs with their start")
    gc.collect()  # dask-jobqueue takes its certificates away
    merged = comparable(shards.output_folder)
    unequal = [
        name for name, content in whole.items() if not name.startswith("prompts/") and merged.get(name) != content
    ]
    print(f"exit code {run.exit_code}, {len(differ)} label volumes differ")
    print(f"an array of two shards: {shards_s:.1f} s, {len(unequal)} files of labels, figures and tables differ")
    shutil.rmtree(root)
    return int(bool(differ or unequal) or run.exit_code != 0)


def submit_array(options: SegmentOptions, root: Path, parts: int) -> None:
    """Run every shard as a job of an array, as usage.md shows it, and wait for all."""
    script = root / "array.sh"
    said = ["--tissue", ",".join(options.tissues), "--model", options.model, "--prompts", options.prompts]
    said += ["--cache", str(options.cache), "--device", "cpu", "-o", str(options.output)]
    script.write_text(
        f"#!/bin/bash\nexport PYTHONPATH={Path(msksam_cli.__file__).resolve().parents[1]}\n"
        f"exec {sys.executable} -c 'from msksam_cli.app import main; main()' segment {options.study} {' '.join(said)} "
        "--shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT\n"
    )
    asked = ["sbatch", "--wait", f"--array=1-{parts}", "--signal=B:TERM@60", "--time=10", str(script)]
    subprocess.run(asked, check=True, stdout=subprocess.DEVNULL)


def _kill_one(records: Path) -> None:
    """End a job's worker while cases are underway."""
    while len(list(records.glob("*.json"))) < 2:
        time.sleep(0.2)
    job = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()[0]
    subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)
    print(f"job {job} was killed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
