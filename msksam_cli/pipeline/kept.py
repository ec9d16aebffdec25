"""What is known of a volume from an earlier run: how atlases fit it, where one lies, and which bones were found by it.

Fit and placement depend on the volume, the atlas and the code that places it, and on nothing that is asked of them, so
that another tissue, another model or other prompts need not place an atlas again. Bones depend on the model and the
rules as well; thin tissues are laid along them, whichever of these is asked for.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

import msksam_cli
from msksam_cli.atlas.coarse_fit import coarse_fit
from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.atlas.placement import place_atlas
from msksam_cli.core.atlases import Atlas, Fit, PlacedAtlas
from msksam_cli.core.boxed import Boxed
from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.result_store import ResultStore

_NUMERICS = ("numpy", "scipy", "SimpleITK")


@dataclass(frozen=True, eq=False)
class Kept:
    """Results about one volume, computed once.

    Attributes:
        store: where they are kept, None to keep none.
        volume_sha256: hash of all that placing an atlas takes from the volume.
    """

    store: ResultStore | None
    volume_sha256: str

    @classmethod
    def of(cls, volume: Volume, store: ResultStore | None) -> Kept:
        """What is kept about a volume."""
        return cls(store, volume.sha256 if store else "")

    def fit_score(self, atlas_sha256: str, read: Callable[[], Atlas], volume: Volume) -> float:
        """How well an atlas fits the volume, see `CoarseFit.score`.

        Raises:
            AtlasError: the volume is constant, or the atlas cannot be read.
        """
        content = self._once("fit", atlas_sha256, lambda: json.dumps(coarse_fit(read(), volume).score).encode())
        return float(json.loads(content))

    def placement(self, atlas: Atlas, volume: Volume, threads: int) -> PlacedAtlas:
        """The atlas on the volume, see `place_atlas`.

        Raises:
            AtlasError: the volume is constant.
        """
        if self.store is None:
            return place_atlas(atlas, volume, threads=threads)
        content = self._once("place", atlas.sha256, lambda: _dumped(place_atlas(atlas, volume, threads=threads)))
        return _parsed(content, atlas, volume)

    def bones(self, placed: PlacedAtlas, asked: str) -> LabelMap | None:
        """The bones found by a placement, None when they are not known.

        Args:
            placed: the atlas on the volume, as `placement` gave it.
            asked: all else they depend on: model, rules, tissues; "" when that cannot be told.
        """
        content = (
            self.store.get(self._bones_key(placed, asked)) if self.store and asked and placed.atlas_sha256 else None
        )
        if content is None:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            start, part = arrays["start"].tolist(), arrays["part"]
        i, j, k = (slice(first, first + n) for first, n in zip(start, part.shape, strict=True))
        return LabelMap(Boxed(placed.grid.shape, (i, j, k), part).whole(), placed.grid, placed.tissues)

    def keep_bones(self, placed: PlacedAtlas, asked: str, found: LabelMap) -> None:
        """Keep what `bones` gives.

        Raises:
            CacheError: the folder cannot be written or the disk is full.
        """
        if self.store and asked and placed.atlas_sha256:
            known, stream = Boxed.of(found.values), io.BytesIO()
            np.savez_compressed(stream, start=[part.start for part in known.box], part=known.part, allow_pickle=False)
            self.store.put(self._bones_key(placed, asked), stream.getvalue())

    def _bones_key(self, placed: PlacedAtlas, asked: str) -> str:
        return _key("bones", _code_sha256(""), placed.atlas_sha256, self.volume_sha256, asked)

    def _once(self, what: str, atlas_sha256: str, compute: Callable[[], bytes]) -> bytes:
        if self.store is None or not atlas_sha256:
            return compute()
        key = _key(what, _code_sha256("atlas"), atlas_sha256, self.volume_sha256)
        found = self.store.get(key)
        if found is None:
            found = compute()
            self.store.put(key, found)
        return found


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def _code_sha256(folder: str) -> str:
    """Hex sha256 over the code in a folder of the package, at any depth, and the versions of what it counts with."""
    digest = hashlib.sha256(" ".join(importlib.metadata.version(name) for name in _NUMERICS).encode())
    for source in sorted((Path(msksam_cli.__path__[0]) / folder).rglob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


def _dumped(placed: PlacedAtlas) -> bytes:
    probabilities = placed.probabilities
    if not isinstance(probabilities, WorkingProbabilities):
        raise TypeError("only a placement on a working grid can be kept")
    facts = {
        "fit": asdict(placed.fit),
        "side": placed.side,
        "visible": {str(index): share for index, share in placed.visible_fraction.items()},
    }
    arrays = {str(index): values for index, values in probabilities.stored.items()}
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        allow_pickle=False,
        facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
        affine=probabilities.work.affine,
        **arrays,
    )
    return stream.getvalue()


def _parsed(content: bytes, atlas: Atlas, volume: Volume) -> PlacedAtlas:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        values = {index: arrays[str(index)] for index in atlas.tissues.indices}
        work = Grid(next(iter(values.values())).shape, arrays["affine"])
    return PlacedAtlas(
        grid=volume.grid,
        probabilities=WorkingProbabilities(work, volume.grid, values),
        visible_fraction={int(index): share for index, share in facts["visible"].items()},
        tissues=atlas.tissues,
        fit=Fit(**facts["fit"]),
        side=facts["side"],
        atlas_name=atlas.name,
        atlas_sha256=atlas.sha256,
        populations=atlas.populations,
    )
