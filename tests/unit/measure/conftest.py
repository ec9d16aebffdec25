"""Measurements printed in papers, typed as facts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray


@dataclass(frozen=True)
class PeakFlow:
    """Peak expiratory flow in l/min of 17 subjects, twice by each of two meters."""

    wright: NDArray[np.float64]
    wright_again: NDArray[np.float64]
    mini: NDArray[np.float64]
    mini_again: NDArray[np.float64]


@pytest.fixture
def peak_flow() -> PeakFlow:
    """Bland and Altman, Lancet 1986; 327: 307-310, table I."""
    return PeakFlow(
        np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427.0]),
        np.array([490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421.0]),
        np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451.0]),
        np.array([525, 415, 508, 444, 500, 625, 460, 390, 642, 432, 420, 605, 227, 467, 268, 370, 443.0]),
    )


@pytest.fixture
def ratings() -> NDArray[np.float64]:
    """Six targets by four judges: Shrout and Fleiss, Psychological Bulletin 1979; 86: 420-428, table 2."""
    return np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7.0]])
