"""What a reviewer decided: the review.csv that a report saves, or a plain list of cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.errors import InputError
from msksam_cli.io.tables import read_csv

REVIEW_COLUMNS = ("case", "decision", "note", "decided", "labels_sha256")
"""Columns of review.csv; only the first is needed."""

ACCEPT, EDIT, REJECT = DECISIONS = ("accept", "edit", "reject")
"""What may stand in the column `decision`, besides nothing."""


@dataclass(frozen=True)
class Review:
    """Decisions by case; None for every case of a list without decisions.

    Attributes:
        name: of the file, for messages.
        decisions: case → decision, "" for an undecided one, None where the file has no such column.
    """

    name: str
    decisions: Mapping[str, str | None]

    def listed(self, *decisions: str) -> frozenset[str]:
        """Cases with one of these decisions, and every case of a list without decisions."""
        return frozenset(case for case, decision in self.decisions.items() if decision is None or decision in decisions)


def read_review(path: Path) -> Review:
    """Read a review: a CSV file with a column `case`, or a text file with a case a line.

    Raises:
        InputError: the file cannot be read, names no case or one twice, or holds an unknown decision.
    """
    rows = read_csv(path)
    plain = _plain_rows(path)
    header = [name.strip() for name in plain[0]["case"].split(",")] if plain else []
    if "case" not in header and len(header) > 1:
        raise InputError(f"{path.name} has no column case", "Save it from report.html, or write a case a line")
    decisions: dict[str, str | None] = {}
    for line, row in enumerate(rows if "case" in header else plain, start=2 if "case" in header else 1):
        case, decision = row["case"].strip(), row.get("decision")
        if not case or case in decisions:
            raise InputError(f"{path.name}, row {line}: {'twice ' + repr(case) if case else 'no case'}")
        if decision is not None and decision.strip() not in ("", *DECISIONS):
            raise InputError(
                f"{path.name}, row {line}: unknown decision {decision!r}",
                f"Use {', '.join(DECISIONS)} or leave it empty",
            )
        decisions[case] = None if decision is None else decision.strip()
    if not decisions:
        raise InputError(f"{path.name} names no case", "Save it from report.html, or write a case a line")
    return Review(path.name, decisions)


def _plain_rows(path: Path) -> list[dict[str, str]]:
    """Every line as a case."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [{"case": line} for line in lines if line.strip()]
