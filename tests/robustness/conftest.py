"""Short, seeded runs of the scripts in benchmarks/robustness."""

from __future__ import annotations

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "robustness"
sys.path.insert(0, str(SCRIPTS))
