"""What is known of a volume from an earlier run: how atlases fit it, and where one lies.

Both depend on the volume, the atlas and the code that places it, and on nothing that is asked of them, so that another
tissue, another model or other prompts need not place an atlas again.
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

import msksam_cli.atlas
from msksam_cli.atlas.coarse_fit import coarse_fit
from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.atlas.placement import place_atlas
from msksam_cli.core.atlases import Atlas, Fit, PlacedAtlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import Volume
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
        return cls(store, volume_sha256(volume) if store else "")

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

    def _once(self, what: str, atlas_sha256: str, compute: Callable[[], bytes]) -> bytes:
        if self.store is None or not atlas_sha256:
            return compute()
        key = hashlib.sha256("\n".join((what, _code_sha256(), atlas_sha256, self.volume_sha256)).encode()).hexdigest()
        found = self.store.get(key)
        if found is None:
            found = compute()
            self.store.put(key, found)
        return found


def volume_sha256(volume: Volume) -> str:
    """Hex sha256 over intensities, grid and side."""
    digest = hashlib.sha256(f"{volume.grid.shape} {volume.side}".encode())
    digest.update(np.ascontiguousarray(volume.grid.affine, dtype=np.float64).tobytes())
    digest.update(np.ascontiguousarray(volume.intensities).data)
    return digest.hexdigest()


@cache
def _code_sha256() -> str:
    """Hex sha256 over the code that places atlases and the versions of what it counts with."""
    digest = hashlib.sha256(" ".join(importlib.metadata.version(name) for name in _NUMERICS).encode())
    for source in sorted(Path(msksam_cli.atlas.__path__[0]).glob("*.py")):
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
