import pytest

from msksam_cli.errors import UsageError
from msksam_cli.measure.relaxometry import FitRules, NoiseFloor
from msksam_cli.pipeline.map_options import MapOptions, parse_maps, parse_times


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


def test_texts_of_the_command_line_become_options():
    options = parse_maps(None, "s", "offset", True, spin_lock_times_ms="0,10,20,40,80")
    rules = FitRules(NoiseFloor.OFFSET, skip_first=True)
    assert options == MapOptions(None, "s", (), (0.0, 10.0, 20.0, 40.0, 80.0), rules)
    with pytest.raises(UsageError, match="unknown noise floor 'gauss'"):
        parse_maps(None, "ms", "gauss", False)
