"""Tables of rows and tables of tissues: CSV, JSON, BIDS TSV, ITK-SNAP and 3D Slicer.

A cell that is None becomes empty in CSV and `n/a` in TSV (BIDS); floats keep nine significant digits.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from msksam_cli.core.tissues import GROUPS, SIDES, Tissue, TissueTable, distinct_color
from msksam_cli.errors import InputError
from msksam_cli.io.atomic import write_atomic, write_text

TISSUE_COLUMNS = ("index", "name", "abbreviation", "color", "side", "group", "region", "mapping")
"""Columns of labels.tsv; the first four are those of BIDS dseg tables, whose `mapping` is an integer (see io.bids)."""

_UNKNOWN = "n/a"
_DIGITS = 9


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows under a header; columns a row does not name stay empty.

    Raises:
        ValueError: a row names a column that is not in the header, or holds a number that is not finite.
        EnvironmentFault: the file cannot be written.
    """

    def write(stream: BinaryIO) -> None:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({column: cell_text(value) for column, value in row.items()})
        text.flush()
        text.detach()

    write_atomic(path, write)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as text by column.

    Raises:
        InputError: the file cannot be read or a row has more cells than the header.
    """
    return _read_rows(path, ",")


def cell_text(value: object) -> str:
    """What a value looks like in a cell.

    >>> cell_text(None), cell_text(0.1 + 0.2), cell_text(12), cell_text(True)
    ('', '0.3', '12', 'true')

    Raises:
        ValueError: a number is not finite.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} does not belong in a table; None stands for what is not known")
        return f"{value:.{_DIGITS}g}"
    return str(value)


def write_json(path: Path, value: object) -> None:
    """Write a value of dicts, lists, text and finite numbers, indented, in the given order of keys.

    Raises:
        ValueError: a number is not finite.
        EnvironmentFault: the file cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> object:
    """The value in a JSON file.

    Raises:
        InputError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # a number of 5000 digits is a ValueError
        raise InputError(f"{path.name} cannot be read as JSON") from error


def write_tissue_table(path: Path, tissues: TissueTable) -> None:
    """Write labels.tsv.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    lines = ["\t".join(TISSUE_COLUMNS)]
    lines += ["\t".join(_tsv_cell(getattr(tissue, column)) for column in TISSUE_COLUMNS) for tissue in tissues]
    write_text(path, "\n".join(lines) + "\n")


def read_tissue_table(path: Path) -> TissueTable:
    """Read a BIDS dseg table: `index` and `name` are needed, the other columns may be missing, a row 0 is background.

    Raises:
        InputError: the file cannot be read, a column is missing or a value cannot be used; the message names the row.
    """
    rows = _read_rows(path, "\t")
    if not rows or not {"index", "name"} <= set(rows[0]):
        raise InputError(f"{path.name} has no rows with columns index and name", "Separate the columns by tabs")
    tissues = []
    for number, row in enumerate(rows, start=2):
        try:
            index = int(row["index"])
        except ValueError as error:
            raise InputError(f"{path.name}, line {number}: index {row['index']!r} is not a whole number") from error
        if index != 0:
            tissues.append(_tissue(index, {column: _known(text) for column, text in row.items()}))
    return TissueTable(tuple(tissues))


def write_itksnap_labels(path: Path, tissues: TissueTable) -> None:
    """Write the table as ITK-SNAP's label description file: a line per label, opacity 0…1, name in quotation marks.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    lines = [
        "# ITK-SnAP Label Description File",
        "# Columns: IDX -R- -G- -B- -A-- VIS MSH LABEL",
        _itksnap_row(0, (0, 0, 0), shown=0, name="Clear Label"),
        *(_itksnap_row(tissue.index, tissue.rgb, shown=1, name=tissue.name) for tissue in tissues),
    ]
    write_text(path, "\n".join(lines) + "\n")


def write_slicer_colors(path: Path, tissues: TissueTable) -> None:
    """Write the table as 3D Slicer's colour table; spaces in names become underscores, which Slicer shows as spaces.

    The header and the six columns are those of "Color table file format (.txt, .ctbl)" in Slicer's developer guide.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    lines = [f"# Color table file {path.name}", f"# {len(tissues) + 1} values", "0 background 0 0 0 0"]
    for tissue in tissues:
        red, green, blue = tissue.rgb
        lines.append(f"{tissue.index} {'_'.join(tissue.name.split())} {red} {green} {blue} 255")
    write_text(path, "\n".join(lines) + "\n")


def aligned_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under a header as text in aligned columns, the first column to the left and the others to the right.

    >>> print(aligned_text(("tissue", "dice"), [("femur", "0.9")]))
    tissue  dice
    femur    0.9
    """
    cells = [tuple(columns), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    lines = (
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _read_rows(path: Path, delimiter: str) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} cannot be read as a text table") from error
    lines = [line.split("\t") for line in text.splitlines() if line] if delimiter == "\t" else _csv_lines(path, text)
    if not lines:
        return []
    header = [name.strip() for name in lines[0]]
    for number, row in enumerate(lines[1:], start=2):
        if len(row) > len(header):
            raise InputError(f"{path.name}, line {number}: {len(row)} cells under {len(header)} columns")
    return [dict(zip(header, row + [""] * (len(header) - len(row)), strict=True)) for row in lines[1:]]


def _csv_lines(path: Path, text: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise InputError(f"{path.name} cannot be read as a text table: {error}") from error


def _tissue(index: int, row: Mapping[str, str]) -> Tissue:
    color, group, side = row.get("color", ""), row.get("group", ""), row.get("side", "")
    return Tissue(
        index=index,
        name=row["name"],
        abbreviation=row.get("abbreviation", ""),
        color=color or distinct_color(index),
        side=side if side in SIDES else "",
        group=group if group in GROUPS else "other",
        mapping=row.get("mapping", ""),
        region=row.get("region", ""),
    )


def _known(text: str) -> str:
    stripped = text.strip()
    return "" if stripped == _UNKNOWN else stripped


def _tsv_cell(value: object) -> str:
    text = " ".join(str(value).split())
    return text or _UNKNOWN


def _itksnap_row(index: int, rgb: tuple[int, int, int], shown: int, name: str) -> str:
    red, green, blue = rgb
    quoted = name.replace('"', "'")
    return f'{index:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{quoted}"'
