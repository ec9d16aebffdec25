"""What a device was found to hold: batches that did not fit are halved, and stay halved for the rest of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class DeviceMemory:
    """The sizes of batches that fitted after larger ones did not; None where nothing has failed yet.

    Attributes:
        slices: slices encoded at once.
        prompts: prompts decoded at once.
        left_for_cpu: whether the device was left because one slice or prompt alone did not fit.
    """

    slices: int | None = None
    prompts: int | None = None
    left_for_cpu: bool = False

    def slices_at_once(self, wanted: int) -> int:
        """How many slices to encode at once where `wanted` are wished for."""
        return min(wanted, self.slices or wanted)

    def prompts_at_once(self, wanted: int) -> int:
        """How many prompts to decode at once where `wanted` are wished for."""
        return min(wanted, self.prompts or wanted)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a run should say about it.

        >>> DeviceMemory(slices=4).notes
        ('slices encoded 4 at once, more did not fit',)
        """
        return (
            *([f"slices encoded {self.slices} at once, more did not fit"] if self.slices else []),
            *([f"prompts decoded {self.prompts} at once, more did not fit"] if self.prompts else []),
            *(["computed on the CPU, one slice did not fit the device"] if self.left_for_cpu else []),
        )
