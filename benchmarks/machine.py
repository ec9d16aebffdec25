"""What a benchmark ran on, for the heading of its table."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from msksam_cli.sam.threads import cores


def machine_text(device: str = "cpu") -> str:
    """Processor, cores, GPU and versions in a line."""
    parts = [_processor(), f"{cores()} cores", f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    if device != "cpu":
        parts.insert(0, torch.cuda.get_device_name(device))
    return ", ".join(parts)


def _processor() -> str:
    """The processor's name and what it can do with bf16."""
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in information.read_text().splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in fields.items()}
    flags = known.get("flags", "").split()
    able = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    return f"{known.get('model name', platform.machine())} ({', '.join(able) or 'no bf16'})"
