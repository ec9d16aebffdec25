"""Which atlas serves a volume: by body part, then by tissues, then by fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msksam_cli.core.atlases import Atlas
from msksam_cli.core.body_parts import regions_of_body_part
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import Volume
from msksam_cli.errors import AtlasError, UsageError
from msksam_cli.io.atlas_folder import AtlasHeader, find_atlas, list_atlases, read_atlas, read_atlas_header
from msksam_cli.pipeline.kept import Kept


@dataclass(frozen=True, eq=False)
class AtlasChoice:
    """The atlas of one volume.

    Attributes:
        atlas: the atlas.
        tissues: what is wanted of it.
        reason: why it was taken.
    """

    atlas: Atlas
    tissues: TissueTable
    reason: str


@dataclass(frozen=True, eq=False)
class AtlasShelf:
    """The atlases a run may choose from.

    Attributes:
        atlases: what is installed, or the one that was named.
        wanted: names of tissues or groups, or "all"; a group means other tissues in each atlas.
        is_named: whether the user named the atlas, and so answers for the body part.
    """

    atlases: tuple[AtlasHeader, ...]
    wanted: tuple[str, ...]
    is_named: bool = False

    @property
    def tissues(self) -> TissueTable:
        """Everything that may be wanted of any atlas on the shelf.

        Raises:
            UsageError: atlases disagree about a label value or a name.
        """
        useful = self._useful
        found: dict[tuple[int, str], Tissue] = {}
        for header in useful:
            for tissue in header.tissues.select(self.wanted):
                found.setdefault((tissue.index, tissue.name), tissue)
        indices, names = zip(*found, strict=True)
        if len(found) > min(len(set(indices)), len(set(names))):
            listed = ", ".join(header.name for header in useful)
            raise UsageError(
                f"atlases {listed} know these tissues under different numbers or names", "Name one with --atlas"
            )
        return TissueTable(tuple(found.values()))

    @property
    def sha256(self) -> str:
        """Hash of the atlases that may be taken, whatever folders they lie in."""
        digest = hashlib.sha256()
        for header in sorted(self._useful, key=lambda one: one.name):
            digest.update(header.sha256.encode())
        return digest.hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the atlases that may be taken."""
        return tuple(header.name for header in self._useful)

    def candidates(self, body_part: str) -> tuple[AtlasHeader, ...]:
        """The atlases that may serve a volume: those of its body part that know every wanted tissue.

        Atlases that do not say what they show are asked only where no other shows the body part.

        Raises:
            AtlasError: none shows the body part, or those that do lack a tissue.
        """
        regions = set() if self.is_named else set(regions_of_body_part(body_part))
        if not regions:
            return self._useful
        shown = [one for one in self.atlases if regions & set(regions_of_body_part(one.body_part))]
        shown = shown or [one for one in self.atlases if not one.body_part]
        said = f"the input says it shows the {body_part}"
        if not shown:
            parts = ", ".join(one.body_part for one in self.atlases)
            raise AtlasError(f"{said}; there are atlases of {parts}", "Name one with --atlas if the input is wrong")
        found = _knowing(shown, self.wanted)
        if not found:
            missing = ", ".join(map(repr, _missing(shown, self.wanted)))
            known = "; ".join(f"{one.name} knows {', '.join(t.name for t in one.tissues)}" for one in shown)
            raise AtlasError(
                f"{said}, whose atlas has no {missing}: {known}", "Name another with --atlas if the input is wrong"
            )
        return found

    def choose(self, volume: Volume, kept: Kept | None = None) -> AtlasChoice:
        """The atlas that serves a volume; where several may, the one that fits best.

        Args:
            volume: what it is to serve.
            kept: what is known about the volume from before.

        Raises:
            AtlasError: none may, or one is damaged.
        """
        found = self.candidates(volume.body_part)
        if len(found) > 1:
            atlas, scores = best_fitting(found, volume, kept)
            reason = "fits best: " + ", ".join(f"{name} {score:.3f}" for name, score in scores)
        else:
            atlas = read_atlas(found[0].folder)
            reason = self._sole_reason(found[0], volume.body_part)
        return AtlasChoice(atlas, atlas.tissues.select(self.wanted), reason)

    @property
    def _useful(self) -> tuple[AtlasHeader, ...]:
        return _knowing(self.atlases, self.wanted)

    def _sole_reason(self, header: AtlasHeader, body_part: str) -> str:
        if self.is_named:
            return "named by the user"
        if set(regions_of_body_part(body_part)) & set(regions_of_body_part(header.body_part)):
            return f"the input says it shows the {body_part}"
        return "no other atlas knows these tissues"


def atlas_shelf(name: str, wanted: tuple[str, ...]) -> AtlasShelf:
    """All installed atlases for "auto", else the one with this name or folder.

    Raises:
        AtlasError: there is none, or one is damaged.
        UsageError: no atlas knows the wanted tissues, or several know them under different numbers.
    """
    is_named = name != "auto"
    folders = [find_atlas(name)] if is_named else list(list_atlases().values())
    if not folders:
        raise AtlasError("no atlas is installed", "Build one with `msksam atlas build`")
    shelf = AtlasShelf(tuple(read_atlas_header(folder) for folder in folders), wanted, is_named)
    if not shelf.names:
        raise _unknown(shelf)
    return shelf


def best_fitting(
    headers: Sequence[AtlasHeader], volume: Volume, kept: Kept | None = None
) -> tuple[Atlas, tuple[tuple[str, float], ...]]:
    """The atlas that tells most about a volume, and the (name, score) of all, best first.

    Raises:
        AtlasError: an atlas is damaged.
    """
    known = kept or Kept.of(volume, None)

    def score(header: AtlasHeader) -> float:
        return known.fit_score(header.sha256, lambda: read_atlas(header.folder), volume)

    scores = spread_over_cores(score, headers, few_cores())
    ranked = sorted(zip(headers, scores, strict=True), key=lambda pair: -pair[1])
    return read_atlas(ranked[0][0].folder), tuple((header.name, value) for header, value in ranked)


def _knows(header: AtlasHeader, wanted: Iterable[str]) -> bool:
    try:
        header.tissues.select(wanted)
    except UsageError:
        return False
    return True


def _knowing(headers: Iterable[AtlasHeader], wanted: tuple[str, ...]) -> tuple[AtlasHeader, ...]:
    return tuple(header for header in headers if _knows(header, wanted))


def _missing(headers: Sequence[AtlasHeader], wanted: tuple[str, ...]) -> list[str]:
    """The wanted names that none of the atlases knows; all of them where each knows only some."""
    unknown = [name for name in wanted if not any(_knows(header, (name,)) for header in headers)]
    return unknown or list(wanted)


def _unknown(shelf: AtlasShelf) -> UsageError:
    missing = _missing(shelf.atlases, shelf.wanted)
    if any(_knows(header, missing[:1]) for header in shelf.atlases):
        return UsageError(f"no atlas knows all of {', '.join(missing)}", "Ask for them in separate runs")
    tissues = [tissue for header in shelf.atlases for tissue in header.tissues]
    names, groups = dict.fromkeys(t.name for t in tissues), dict.fromkeys(t.group for t in tissues)
    return UsageError(
        f"unknown tissue {missing[0]!r}", f"Use tissues {', '.join(names)}; groups {', '.join(groups)}; or all"
    )
