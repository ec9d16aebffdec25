"""Labels as a BIDS derivative: names, tables and sidecars of the Brain Imaging Data Structure, version 1.10.

A derivative is a data set of its own, so that it can be moved below any raw data set. Names follow from the case's name
alone: the parts of a BIDS name are kept, any other name becomes the subject's label.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msksam_cli import __version__
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.io.atomic import write_atomic, write_text
from msksam_cli.io.tables import write_json

BIDS_VERSION = "1.10.0"
DSEG_COLUMNS = ("index", "name", "abbreviation", "color", "mapping", "side", "group", "region", "code")
"""The first five are those of the specification; the sidecar describes the others."""

_ENTITIES = "".join(f"(?:_{key}-[A-Za-z0-9]+)?" for key in ("ses", "sample", "acq", "ce", "trc", "rec", "run", "echo"))
_NAME = re.compile(rf"(sub-[A-Za-z0-9]+)({_ENTITIES})_([A-Za-z0-9]+)")
_BONE, _SOFT_TISSUE, _LESION = 4, 5, 7
_COMMON_LABELS = {
    "bone": _BONE, "vertebra": _BONE, "cartilage": _SOFT_TISSUE, "meniscus": _SOFT_TISSUE, "ligament": _SOFT_TISSUE,
    "muscle": _SOFT_TISSUE, "fat": _SOFT_TISSUE, "skin": _SOFT_TISSUE, "disc": _SOFT_TISSUE,
}  # fmt: skip
"""Tissue group → BIDS's common image-derived label, which `mapping` holds."""
_DESCRIBED = {
    "side": "left, right, medial or lateral",
    "group": "family of the tissue",
    "region": "regions of the body that hold it, separated by spaces",
    "code": "type[/modifier][@region[/modifier]] in SNOMED CT (SCT) or msksam's private scheme (99MSKSAM)",
}


@dataclass(frozen=True)
class BidsName:
    """Where a case's files lie in a data set, and what their names begin with.

    Attributes:
        folder: below the data set, such as "sub-01/ses-2/anat".
        stem: such as "sub-01_ses-2_desc-msksam".
    """

    folder: str
    stem: str

    def path(self, ending: str) -> str:
        """A file of the case below the data set.

        >>> bids_name("knee07").path("_dseg.tsv")
        'sub-knee07/anat/sub-knee07_desc-msksam_dseg.tsv'
        """
        return f"{self.folder}/{self.stem}{ending}"


def bids_name(case: str) -> BidsName:
    """The name of a case: no two cases share one.

    A label has letters and digits only. Where a case's name has others, they are left out, and six digits of its
    sha256 keep it apart from a case that differs by them. The suffix of a BIDS name joins the description, since one
    subject may have several images.

    >>> bids_name("sub-01_ses-2_run-1_T2w").stem
    'sub-01_ses-2_run-1_desc-msksamT2w'
    >>> bids_name("series-4-2ec22c31").stem
    'sub-series42ec22c312a6c5e_desc-msksam'
    """
    known = _NAME.fullmatch(case)
    if known:
        subject, entities, suffix = known.groups()
        session = next((part for part in entities.split("_") if part.startswith("ses-")), "")
        folder = "/".join(filter(None, (subject, session, "anat")))
        return BidsName(folder, f"{subject}{entities}_desc-msksam{suffix}")
    label = re.sub(r"[^A-Za-z0-9]", "", case)
    if label != case:
        label += hashlib.sha256(case.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return BidsName(f"sub-{label}/anat", f"sub-{label}_desc-msksam")


def bids_files(case: str) -> tuple[str, str, str, str]:
    """Labels, their table, their sidecar and the prompts of a case, below the data set."""
    name = bids_name(case)
    return name.path("_dseg.nii.gz"), name.path("_dseg.tsv"), name.path("_dseg.json"), name.path("_prompts.json")


def write_dataset(folder: Path) -> None:
    """Write what belongs to the data set as a whole.

    Raises:
        EnvironmentFault: a file cannot be written.
    """
    description = {
        "Name": "Segmentations by msksam",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {"Name": "msksam", "Version": __version__, "Description": "Segment Anything, asked by an atlas"}
        ],
    }
    write_json(folder / "dataset_description.json", description)
    write_text(folder / "README.md", _README)
    write_text(folder / ".bidsignore", "*_prompts.json\n")


def write_case(
    folder: Path, case: str, *, labels: Path, prompts: Path, tissues: TissueTable, facts: Mapping[str, str]
) -> None:
    """Write a case's labels, table, sidecar and prompts into a data set.

    Args:
        folder: of the data set.
        case: name of the case.
        labels: its label volume, copied as it is.
        prompts: its file of prompts, copied as it is.
        tissues: what the label values mean.
        facts: what the sidecar says of model and atlas.

    Raises:
        EnvironmentFault: a file cannot be written.
    """
    to_labels, to_table, to_sidecar, to_prompts = (folder / name for name in bids_files(case))
    _copy(labels, to_labels)
    _copy(prompts, to_prompts)
    rows = ["\t".join(DSEG_COLUMNS), *("\t".join(_row(tissue)) for tissue in tissues)]
    write_text(to_table, "\n".join(rows) + "\n")
    columns = {name: {"Description": text} for name, text in _DESCRIBED.items()}
    about = {
        "Description": "Tissues of an MR image on its own grid",
        "Manual": False,
        "SpatialReference": "orig",
        **{name: text for name, text in facts.items() if text},
    }
    write_json(to_sidecar, {**about, **columns})


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as stream:
        write_atomic(target, lambda out: shutil.copyfileobj(stream, out))


def _row(tissue: Tissue) -> tuple[str, ...]:
    common = _LESION if "tumour" in tissue.name else _COMMON_LABELS.get(tissue.group)
    cells = (
        tissue.index, tissue.name, tissue.abbreviation, tissue.color, common, tissue.side, tissue.group, tissue.region,
        tissue.mapping,
    )  # fmt: skip
    return tuple(" ".join(str(cell).split()) if cell not in (None, "") else "n/a" for cell in cells)


_README = """# Segmentations by msksam

A BIDS derivative written by `msksam segment --layout bids`: for each case the labels on the image's own grid
(`_dseg.nii.gz`), what their values mean (`_dseg.tsv`), how they were made (`_dseg.json`), and every box and point the
network was asked (`_prompts.json`, which the specification does not know and `.bidsignore` names).

It is a copy. The run folder it was made from holds measures, doubts and the report, and is what `msksam measure`,
`evaluate`, `report` and a resumed run work on.
"""
