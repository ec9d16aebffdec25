"""What `compare` found."""

from __future__ import annotations

from dataclasses import dataclass

from msksam_cli.pipeline.case_matching import Unusable
from msksam_cli.pipeline.compare_case import Compared
from msksam_cli.pipeline.compare_tables import WayDifference, WaySummary
from msksam_cli.pipeline.fit_fusion import FusionFit


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """The full table of a labelled set.

    Attributes:
        atlas: name of the atlas.
        models: names of the models.
        compared: every tissue of every case, labelled every way.
        summaries: means per tissue, group and way, of cases the atlas was not built from.
        differences: paired differences between ways.
        fits: fusion weights found, one per model; empty unless they were asked for.
        refused: cases that could not be compared.
        notes: what else the user should know.
    """

    atlas: str
    models: tuple[str, ...]
    compared: tuple[Compared, ...]
    summaries: tuple[WaySummary, ...]
    differences: tuple[WayDifference, ...]
    fits: tuple[FusionFit, ...]
    refused: tuple[Unusable, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 when every case was compared, else 3."""
        return 3 if self.refused else 0
