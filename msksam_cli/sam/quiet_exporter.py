"""Torch's exporter without what it says of itself."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from msksam_cli.core.quiet import without_warnings


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Without what torch's exporter says of itself: its own deprecated calls, names of axes, an absent torchvision."""
    disabled_before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with without_warnings():
            yield
    finally:
        logging.disable(disabled_before)
