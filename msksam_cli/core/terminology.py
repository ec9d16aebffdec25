"""The tissue table: every structure that msksam knows by name, with its label value, region, colour and code.

The table is `tissues.tsv` beside this module: package data that never changes while the program runs. It is read once,
a constant that happens to be kept in a text file; core opens no other file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files

from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.errors import UsageError

REGIONS = ("knee", "thigh", "hip", "shoulder", "lumbar")
"""Regions of the body that the table covers."""

_FILE = "tissues.tsv"
_ANYWHERE = "any"


def tissues_of(region: str, *, findings: bool = False) -> TissueTable:
    """The structures of one region; those that lie in several regions keep one label value in all of them.

    Args:
        region: one of `REGIONS`.
        findings: add what may lie in any region and is no anatomy: implants and tumours.

    >>> [tissue.name for tissue in tissues_of("hip") if tissue.group == "bone"]
    ['femur', 'hip-bone', 'sacrum']

    Raises:
        UsageError: the region is unknown; the message lists what is known.
    """
    if region not in REGIONS:
        raise UsageError(f"unknown region {region!r}", f"Use one of {', '.join(REGIONS)}")
    wanted = {region, _ANYWHERE} if findings else {region}
    return TissueTable(tuple(tissue for tissue in TISSUES if wanted & set(tissue.regions)))


def described(tissues: TissueTable) -> TissueTable:
    """The tissues with group, side and region of the known structure of that name, where they have none themselves.

    >>> [(tissue.group, tissue.side) for tissue in described(TissueTable((Tissue(3, "medial-meniscus"),)))]
    [('meniscus', 'medial')]
    """
    return TissueTable(tuple(_described(tissue, TISSUES.by_name(tissue.name)) for tissue in tissues))


def _described(tissue: Tissue, known: Tissue | None) -> Tissue:
    if known is None or tissue.group not in ("other", known.group):
        return tissue
    return replace(tissue, group=known.group, side=tissue.side or known.side, region=tissue.region or known.region)


@cache
def _all_tissues() -> TissueTable:
    lines = (files("msksam_cli.core") / _FILE).read_text(encoding="utf-8").splitlines()
    columns = lines[0].split("\t")
    rows = (dict(zip(columns, line.split("\t"), strict=True)) for line in lines[1:])
    return TissueTable(tuple(_tissue(row) for row in rows))


def _tissue(row: dict[str, str]) -> Tissue:
    return Tissue(
        index=int(row["index"]),
        name=row["name"],
        abbreviation=row["abbreviation"],
        color=row["color"],
        side=row["side"],
        group=row["group"],
        mapping=row["code"],
        region=row["region"],
    )


TISSUES = _all_tissues()
"""All structures of all regions in order of label value."""
