"""The viewer a page may carry: niivue as the package ipyniivue brings it, found but not imported.

ipyniivue ships niivue in one JavaScript module that follows anywidget's front-end protocol (an object with
`initialize` and `render`, which are given a model: https://anywidget.dev/en/afm/).
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from msksam_cli.errors import EnvironmentFault

_PACKAGE = "ipyniivue"
_MODULE = "ipyniivue/static/widget.js"


@dataclass(frozen=True)
class ViewerBundle:
    """A JavaScript module with its notice.

    Attributes:
        name: package and version.
        script: the module's source.
        licence: the text that must go wherever the source goes.
    """

    name: str
    script: bytes
    licence: str

    @property
    def packed(self) -> str:
        """The script for a page: base64 of its gzip, made once in a process."""
        return _packed(self.script)


def viewer_bundle() -> ViewerBundle | None:
    """The installed viewer, None when the extra `viewer` is not installed.

    Raises:
        EnvironmentFault: it is installed without its script or its licence.
    """
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        return None
    licences = [Path(str(path.locate())) for path in package.files or () if path.name == "LICENSE"]
    try:
        script = Path(str(package.locate_file(_MODULE))).read_bytes()
        licence = licences[0].read_text(encoding="utf-8")
    except (IndexError, OSError) as error:
        raise EnvironmentFault(f"{_PACKAGE} {package.version} lacks a file", f"Install {_PACKAGE} again") from error
    return ViewerBundle(f"{_PACKAGE} {package.version}", script, licence.strip())


@lru_cache(maxsize=1)
def _packed(script: bytes) -> str:
    return base64.b64encode(gzip.compress(script, 9, mtime=0)).decode("ascii")
