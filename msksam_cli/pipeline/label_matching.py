"""Which label value of one side means the same tissue as which of the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msksam_cli.core.tissues import Tissue, TissueTable, distinct_color
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.tables import read_tissue_table
from msksam_cli.measure.overlap import LabelArray

TABLE_NAME = "labels.tsv"
WAYS = ("auto", "name", "value")
_LARGEST_LABEL = 65535

ValueNames = Mapping[int, str]


@dataclass(frozen=True)
class LabelMatching:
    """Common labels of both sides.

    Attributes:
        by_name: whether tissue names decide; else values do, and any value may occur.
        names: common label → tissue name; every common label when `by_name`, else those that have a name.
        prediction_names: value → name on the side of the predictions, as known.
        reference_names: the same on the side of the references.
        notes: what the user should know, such as tissues only one side names.
    """

    by_name: bool
    names: ValueNames
    prediction_names: ValueNames
    reference_names: ValueNames
    notes: tuple[str, ...] = ()

    def common_prediction(self, label_map: LabelMap) -> LabelArray:
        """Values (I, J, K) of a prediction as common labels; when names decide, values without a common one are 0."""
        return self._common(label_map, self.prediction_names)

    def common_reference(self, label_map: LabelMap) -> LabelArray:
        """The same for a reference."""
        return self._common(label_map, self.reference_names)

    def _common(self, label_map: LabelMap, side: ValueNames) -> LabelArray:
        if not self.by_name:
            return label_map.values
        labels = {name: label for label, name in self.names.items()}
        lookup = np.zeros(int(np.iinfo(label_map.values.dtype).max) + 1, dtype=np.uint16)
        for value, name in side.items():
            if value < lookup.size:
                lookup[value] = labels.get(name, 0)
        return np.asarray(lookup[label_map.values])


def match_labels(predictions: ValueNames | None, references: ValueNames | None, way: str) -> LabelMatching:
    """How labels are compared: by name where both sides have names (or `way` is "name"), else by value.

    Several values of one side may share a name; they are compared together. The common label is the reference's
    lowest value of that name.

    Raises:
        UsageError: `way` is unknown, or is "name" and a side has no names.
        InputError: names decide and no name is on both sides.
    """
    if way not in WAYS:
        raise UsageError(f"unknown way of matching labels {way!r}", f"Use one of {', '.join(WAYS)}")
    if way == "name" and (predictions is None or references is None):
        side = "predictions" if predictions is None else "references"
        raise UsageError(f"the {side} have no label names", f"Give them, or put a {TABLE_NAME} beside the volumes")
    if way == "value" or predictions is None or references is None:
        predictions, references = predictions or {}, references or {}
        return LabelMatching(False, {**predictions, **references}, predictions, references)
    shared = {name: value for value, name in sorted(references.items(), reverse=True) if name in predictions.values()}
    if not shared:
        known = [", ".join(sorted(set(names.values()))) for names in (predictions, references)]
        raise InputError(
            f"no tissue name is on both sides: predictions have {known[0]}; references have {known[1]}",
            "Give matching names, or compare by value",
        )
    notes = (
        *_one_sided("predictions", predictions, references),
        *_one_sided("references", references, predictions),
    )
    return LabelMatching(True, {value: name for name, value in shared.items()}, predictions, references, notes)


def value_names(given: str, volumes: Path) -> ValueNames | None:
    """Names of one side's label values: as given ("1=femur,2=tibia" or a TSV file), else from a table that is found.

    A table is found as labels.tsv beside the volumes or in the folder above them.

    Raises:
        UsageError: the given text is neither pairs nor a file.
        InputError: a table cannot be read.
    """
    if "=" in given:
        return _pairs(given)
    table = tissue_table(given, volumes)
    return None if table is None else {tissue.index: tissue.name for tissue in table}


def tissue_table(given: str, volumes: Path) -> TissueTable | None:
    """The table of some label volumes: as given, else labels.tsv beside them or in the folder above; None without one.

    Raises:
        UsageError: what is given is neither pairs nor a file.
        InputError: a table cannot be read, or pairs name a tissue twice.
    """
    if "=" in given:
        return TissueTable(tuple(Tissue(n, name, color=distinct_color(n)) for n, name in _pairs(given).items()))
    folder = volumes.parent if volumes.is_file() else volumes
    candidates = [Path(given)] if given else [folder / TABLE_NAME, folder.parent / TABLE_NAME]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None and given:
        raise UsageError(f"{Path(given).name!r} is no table of labels", "Write 1=femur,2=tibia or name a TSV file")
    return read_tissue_table(found) if found else None


def _pairs(text: str) -> ValueNames:
    names: dict[int, str] = {}
    for pair in text.split(","):
        value, _, name = pair.partition("=")
        label = int(value) if value.strip().isdecimal() else 0
        if not 1 <= label <= _LARGEST_LABEL or not name.strip() or label in names:
            raise UsageError(
                f"cannot read {pair.strip()!r} in the label names", "Write each value once: 1=femur,2=tibia"
            )
        names[label] = name.strip()
    return names


def _one_sided(side: str, names: ValueNames, others: ValueNames) -> tuple[str, ...]:
    only = sorted(set(names.values()) - set(others.values()))
    return (f"not evaluated, only the {side} know: {', '.join(only)}",) if only else ()
