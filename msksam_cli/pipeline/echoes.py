"""Which series of a study are segmented: of the echoes of one acquisition one, and no maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msksam_cli.core.series import Series
from msksam_cli.errors import InputError


def first_echoes(series: Sequence[Series]) -> list[Series]:
    """The series to be segmented: no ready-made maps, and of several echoes only the shortest that can be used.

    It has the most signal, and the other echoes lie on the same grid, so that its labels are theirs.

    Raises:
        InputError: there are maps only.
    """
    images = [one for one in series if not one.is_map]
    if not images:
        raise InputError(
            f"the study holds only maps of a quantity ({len(series)})", "Give the images they were made from as well"
        )
    shortest: dict[str, Series] = {}
    for one in images:
        group = one.echo_group or one.case
        if group not in shortest or _echo_order(one) < _echo_order(shortest[group]):
            shortest[group] = one
    return [one for one in images if shortest[one.echo_group or one.case] is one]


def _echo_order(series: Series) -> float:
    return math.inf if series.echo_time_ms is None else series.echo_time_ms
