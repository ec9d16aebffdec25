"""What a review means for the next run: which cases to segment again, and which not to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msksam_cli.core.series import Series
from msksam_cli.errors import InputError
from msksam_cli.io.cases import CaseFolder
from msksam_cli.io.review_file import EDIT, REJECT, read_review

_MOST_NAMES = 5


def chosen_cases(series: Sequence[Series], only: Path | None) -> list[Series]:
    """The series that a review asks to be segmented again: to edit, rejected, or on a list; all without a review.

    Raises:
        InputError: the review cannot be read, names a case the study does not have, or asks for none.
    """
    if only is None:
        return list(series)
    review = read_review(only)
    wanted = review.listed(EDIT, REJECT)
    if not wanted:
        raise InputError(f"{review.name} has no case to edit and none rejected", "Leave --only out for all cases")
    if missing := sorted(wanted - {one.case for one in series}):
        raise InputError(
            f"the study has no {_listed(missing)}, which {review.name} names", "Give the study that was reviewed"
        )
    return [one for one in series if one.case in wanted]


def without_rejected(folder: CaseFolder, exclude: Path | None) -> CaseFolder:
    """Labelled cases without those a review rejects, or without those on a list; all without a review.

    Raises:
        InputError: the review cannot be read, knows none of the cases, or leaves none.
    """
    if exclude is None:
        return folder
    review = read_review(exclude)
    if not set(review.decisions) & {one.name for one in folder.cases}:
        raise InputError(f"{review.name} names none of the {len(folder.cases)} cases", "Give the review of these cases")
    rejected = review.listed(REJECT)
    kept = tuple(one for one in folder.cases if one.name not in rejected)
    unlabelled = tuple(name for name in folder.without_labels if name not in rejected)
    if not kept:
        raise InputError(f"{review.name} leaves none of the {len(folder.cases)} cases", "Accept some of them")
    return replace(folder, cases=kept, without_labels=unlabelled)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"
