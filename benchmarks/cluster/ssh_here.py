"""`segment` on workers by ssh: python benchmarks/cluster/ssh_here.py [--cases N].

Starts an OpenSSH server of its own on this machine, as root, with keys made for it, calls it by two names as if they
were two hosts, runs the small study of the tests in this process and on one worker of each host, and compares all files
but prompts, which tell the threads. The installed msksam is what the workers run. Everything started is ended again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robustness"))
from small_study import comparable, write_study

from msksam_cli.pipeline.executors import ExecutorOptions
from msksam_cli.pipeline.segment import run_segment

NEEDED = ("sshd", "ssh-keygen")
HOSTS = ("first", "second")
SERVER = """
ListenAddress 127.0.0.1
Port {port}
HostKey {root}/host
AuthorizedKeysFile {root}/own.pub
PidFile {root}/sshd.pid
PasswordAuthentication no
StrictModes no
UsePAM no
"""
CLIENT = """
Host {hosts}
    HostName 127.0.0.1
    Port {port}
    IdentityFile {root}/own
    UserKnownHostsFile {root}/known
"""


@contextlib.contextmanager
def server(root: Path) -> Iterator[None]:
    """A server, and a home whose ssh finds it under the names of the hosts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("host", "own"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / name)], check=True)
    (root / "known").write_text(f"[127.0.0.1]:{port} {(root / 'host.pub').read_text()}")
    (root / "sshd_config").write_text(SERVER.format(root=root, port=port))
    (root / ".ssh").mkdir(mode=0o700)
    (root / ".ssh" / "config").write_text(CLIENT.format(root=root, port=port, hosts=" ".join(HOSTS)))
    Path("/run/sshd").mkdir(exist_ok=True)
    program = shutil.which("sshd") or "sshd"  # which wants to be called by its whole path
    with (root / "sshd.out").open("wb") as said:
        daemon = subprocess.Popen([program, "-D", "-e", "-f", str(root / "sshd_config")], stdout=said, stderr=said)
    home = Path.home()
    os.environ["HOME"] = str(root)
    try:
        time.sleep(1)
        if daemon.poll() is not None:
            raise SystemExit(f"sshd ended at once:\n{(root / 'sshd.out').read_text()}")
        yield
    finally:
        os.environ["HOME"] = str(home)
        daemon.terminate()
        daemon.wait()


def main() -> int:
    """Print how it went; 0 when all files are equal and no case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=60)
    asked = parser.parse_args()
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        raise SystemExit(f"not installed: {', '.join(missing)}; on Debian: apt-get install openssh-server")
    with tempfile.TemporaryDirectory(prefix="ssh-") as folder:
        root = Path(folder)
        options = write_study(root, asked.cases)
        before = time.monotonic()
        run_segment(options)
        local_s = time.monotonic() - before
        hosts = ", ".join(f'"{host}"' for host in HOSTS)
        (root / "cluster.toml").write_text(f'kind = "ssh"\nhosts = [{hosts}]\ncores = 1\nwait_minutes = 2\n')
        far = replace(options, output=root / "far", cache=root / "far-cache")
        with server(root):
            before = time.monotonic()
            run = run_segment(far, ExecutorOptions("dask", cluster=root / "cluster.toml"))
            far_s = time.monotonic() - before
        whole, found = comparable(options.output_folder), comparable(far.output_folder)
        names = [name for name in whole.keys() | found.keys() if "prompts/" not in name]
        differ = [name for name in names if whole.get(name) != found.get(name)]
        print(f"{asked.cases} cases: {local_s:.1f} s in this process, {far_s:.1f} s on two hosts with their start")
        print(f"exit code {run.exit_code}; of {len(names)} files {len(differ)} differ {differ[:3]}")
        return int(bool(differ) or run.exit_code != 0)


if __name__ == "__main__":
    sys.exit(main())
