"""Tissue tables as BIDS dseg TSV files: index, name, abbreviation, color, side, group, mapping."""

from __future__ import annotations

from pathlib import Path

from msksam_cli.core.tissues import Tissue, TissueTable, distinct_color
from msksam_cli.errors import InputError

COLUMNS = ("index", "name", "abbreviation", "color", "side", "group", "mapping")


def tissue_table_text(tissues: TissueTable) -> str:
    """The table as TSV, "n/a" where nothing is known, as BIDS wants it."""
    rows = ["\t".join(COLUMNS)]
    rows += ["\t".join(str(getattr(tissue, column)) or "n/a" for column in COLUMNS) for tissue in tissues]
    return "\n".join(rows) + "\n"


def tissue_table_from_text(text: str, where: str) -> TissueTable:
    """The table written in TSV text; only `index` and `name` must be there.

    Args:
        text: TSV with a header line.
        where: file name for messages.

    Raises:
        InputError: a column is missing, a row is short or a value is not allowed.
    """
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    header = [cell.strip().lower() for cell in lines[0].split("\t")] if lines else []
    if not {"index", "name"} <= set(header):
        raise InputError(f"{where} has columns {header}, without index and name", "Write a BIDS dseg table")
    return TissueTable(tuple(_tissue(header, line, f"{where}, line {n}") for n, line in enumerate(lines[1:], start=2)))


def read_tissue_table(path: Path) -> TissueTable:
    """The table in a TSV file.

    Raises:
        InputError: the file cannot be read or is no tissue table.
    """
    try:
        return tissue_table_from_text(path.read_text(encoding="utf-8-sig"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the tissue table {path.name}", "Give a TSV file") from error


def _tissue(header: list[str], line: str, where: str) -> Tissue:
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) != len(header):
        raise InputError(f"{where} has {len(cells)} cells, the header {len(header)}", "Separate cells by tabs")
    row = {key: "" if cell == "n/a" else cell for key, cell in zip(header, cells, strict=True)}
    try:
        index = int(row["index"])
    except ValueError:
        raise InputError(f"{where} has index {row['index']!r}", "Write label values as whole numbers") from None
    return Tissue(
        index=index,
        name=row["name"],
        abbreviation=row.get("abbreviation", ""),
        color=row.get("color") or distinct_color(index),
        side=row.get("side", ""),
        group=row.get("group") or "other",
        mapping=row.get("mapping", ""),
    )
