"""What a result owes to one case: every case left out in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from msksam_cli.measure.estimate import Values, vary

FEWEST_TO_LEAVE_OUT = 4
"""Below this many cases too few remain when one is left out."""

OUTLIER_P = 0.05

Statistic = Callable[[Values, Values], float | None]
"""From predicted and reference (N,) values to a number, None where they cannot give it."""


@dataclass(frozen=True)
class Influence:
    """The case without which a number changes most.

    Attributes:
        case: its name.
        without: the number without it.
    """

    case: str
    without: float


@dataclass(frozen=True)
class Outlier:
    """A difference that does not belong with the others.

    Attributes:
        case: its name.
        distance_sd: its distance from the mean of the others in their standard deviations, None when they are equal.
    """

    case: str
    distance_sd: float | None


def largest_influence(
    cases: Sequence[str], predicted: Values, reference: Values, statistic: Statistic
) -> Influence | None:
    """The case whose absence changes a statistic most; None when no absence changes it or it cannot be computed."""
    whole = statistic(predicted, reference) if len(cases) >= FEWEST_TO_LEAVE_OUT else None
    if whole is None:
        return None
    found: Influence | None = None
    for number, case in enumerate(cases):
        without = statistic(np.delete(predicted, number), np.delete(reference, number))
        if without is not None and abs(without - whole) > (abs(found.without - whole) if found else 0.0):
            found = Influence(case, without)
    return found


def outlying_difference(cases: Sequence[str], predicted: Values, reference: Values) -> Outlier | None:
    """The one difference that the others, taken as normal, make improbable; None when there is none.

    Tested by Student's t of the difference against the others, p times the number of cases below 5 % (Grubbs 1950 in
    the form of Cook and Weisberg 1982), so that 5 of 100 normal samples show one.
    """
    if len(cases) < FEWEST_TO_LEAVE_OUT:
        return None
    differences = predicted - reference
    number = int(np.argmax(np.abs(differences - differences.mean())))
    others = np.delete(differences, number)
    scale = np.concatenate((predicted, reference))
    if not vary(others, scale):
        return Outlier(cases[number], None) if vary(differences, scale) else None
    distance_sd = float((differences[number] - others.mean()) / others.std(ddof=1))
    t = abs(distance_sd) / np.sqrt(1 + 1 / len(others))
    p = 2 * len(cases) * float(stats.t.sf(t, len(others) - 1))
    return Outlier(cases[number], abs(distance_sd)) if p < OUTLIER_P else None
