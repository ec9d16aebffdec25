import pytest

from msksam_cli.errors import UsageError
from msksam_cli.measure.relaxometry import FitRules, NoiseFloor
from msksam_cli.pipeline.map_options import MapOptions, parse_fit, parse_times


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"echo_times_ms": (1.0, 2.0), "spin_lock_times_ms": (1.0, 2.0)}, "echo times or spin-lock times"),
        ({"echo_times_ms": (10.0,)}, "10 ms cannot be fitted"),
        ({"echo_times_ms": (10.0, 10.0, 20.0)}, "cannot be fitted"),
        ({"spin_lock_times_ms": (-1.0, 10.0)}, "cannot be fitted"),
        ({"echo_times_ms": (10.0, 20.0), "rules": FitRules(skip_first=True)}, "cannot be fitted"),
        ({"unit": " "}, "unit of the maps is empty"),
    ],
)
def test_options_that_no_fit_could_follow_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        MapOptions(**changes)


@pytest.mark.parametrize("text", ["10,x", "nan,10", "10;20"])
def test_times_that_are_no_numbers_are_refused(text):
    with pytest.raises(UsageError, match="cannot read times"):
        parse_times(text)


def test_no_times_are_none():
    assert parse_times("") == ()


def test_a_fit_is_named_by_its_noise_floor():
    assert parse_fit("offset", skip_first=True) == FitRules(NoiseFloor.OFFSET, skip_first=True)
    with pytest.raises(UsageError, match="unknown noise floor 'gauss'"):
        parse_fit("gauss", skip_first=False)
