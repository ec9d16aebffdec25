"""What a run is told about quantitative maps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from msksam_cli.errors import UsageError
from msksam_cli.measure.relaxometry import FitRules, NoiseFloor

DEFAULT_UNIT = "ms"


@dataclass(frozen=True)
class MapOptions:
    """Where maps come from and how decays are fitted.

    Attributes:
        files: folder of maps with the cases' names, or one file; None to take those of the study.
        unit: of maps that do not name theirs.
        echo_times_ms: of images whose tags do not say, () to trust the tags.
        spin_lock_times_ms: the same for T1ρ.
        rules: how decays are fitted.
    """

    files: Path | None = None
    unit: str = DEFAULT_UNIT
    echo_times_ms: tuple[float, ...] = ()
    spin_lock_times_ms: tuple[float, ...] = ()
    rules: FitRules = field(default_factory=FitRules)

    def __post_init__(self) -> None:
        if self.echo_times_ms and self.spin_lock_times_ms:
            raise UsageError("images have echo times or spin-lock times", "Give one of the two options")
        times = self.echo_times_ms or self.spin_lock_times_ms
        if times and (len(set(times)) != len(times) or min(times) < 0 or len(times) < self.rules.least_images):
            raise UsageError(
                f"times {', '.join(f'{time:g}' for time in times)} ms cannot be fitted",
                f"Give {self.rules.least_images} or more distinct times of 0 or more",
            )
        if not self.unit.strip():
            raise UsageError("the unit of the maps is empty", "Write it as ms, s or another unit")

    def plain(self) -> dict[str, object]:
        """What maps depend on besides the files, as plain values without paths."""
        return {
            "given": self.files is not None,
            "unit": self.unit,
            "echo_times_ms": list(self.echo_times_ms),
            "spin_lock_times_ms": list(self.spin_lock_times_ms),
            **asdict(self.rules),
        }


def parse_times(text: str) -> tuple[float, ...]:
    """Times separated by commas.

    >>> parse_times("0,10,40.5")
    (0.0, 10.0, 40.5)

    Raises:
        UsageError: one of them is no number.
    """
    try:
        times = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        times = (math.nan,)
    if not all(math.isfinite(time) for time in times):
        raise UsageError(f"cannot read times {text!r}", "Write numbers separated by commas, such as 10,20,30")
    return times


def parse_maps(
    files: Path | None,
    unit: str,
    noise_floor: str,
    skip_first: bool,
    *,
    echo_times_ms: str = "",
    spin_lock_times_ms: str = "",
) -> MapOptions:
    """The options that texts of the command line ask for.

    Raises:
        UsageError: the noise floor is unknown, or times cannot be read or contradict each other.
    """
    if noise_floor not in list(NoiseFloor):
        raise UsageError(f"unknown noise floor {noise_floor!r}", f"Use {', '.join(NoiseFloor)}")
    rules = FitRules(NoiseFloor(noise_floor), skip_first)
    return MapOptions(files, unit, parse_times(echo_times_ms), parse_times(spin_lock_times_ms), rules)
