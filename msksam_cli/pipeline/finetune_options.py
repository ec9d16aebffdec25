"""What a fine-tuning run is asked to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.errors import UsageError

PARTS = ("decoder", "all", "lora")
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class FinetuneOptions:
    """Options of `msksam finetune`.

    Attributes:
        cases: folder with images/ and labels/, or imagesTr/ and labelsTr/.
        output: checkpoint to write; curves, figure, model card and work folder are named after it.
        model: name of the model to start from, or a checkpoint file.
        train: what learns: "decoder" (prompt encoder and mask decoder), "all", or "lora" (the decoder, and the
            encoder through low-rank corrections).
        tissues: names of tissues or groups, or "all".
        labels_table: TSV that names the label values; else labels.tsv beside the folders, else numbers.
        subject: regular expression that finds the subject in a case's name: its first group, else the whole match;
            "" takes every case for a subject of its own.
        validation: share of the subjects that is kept for validation, at least one of them.
        steps: most optimiser steps.
        images: slices in a batch.
        questions: prompts a slice is asked.
        rounds: rounds each prompt is asked; later ones correct the answer before.
        accumulate: batches in a step.
        learning_rate: highest learning rate, None for what suits `train`.
        rank: of the low-rank corrections.
        slices: most slices of a volume that are learnt from, 0 for all.
        validate_every: steps between two looks at the validation volumes.
        patience: looks without a better Dice after which the run ends.
        seed: of all randomness.
        licence: what the checkpoint may be used for, for its card.
        device: "auto", "cpu", "cuda[:N]" or "mps".
        precision: of the encoder, as for `segment`; "fp32" makes the training's arithmetic fp32 as well.
        cache: folder of embeddings, None for the user's own.
        use_cache: whether embeddings are kept on disk at all.
        overwrite: begin again, and replace what is there.
        exclude: review.csv, whose rejected cases are left out, or a list of cases to leave out.
    """

    cases: Path
    output: Path
    model: str = "msksam-small"
    train: str = "decoder"
    tissues: tuple[str, ...] = ("all",)
    labels_table: Path | None = None
    subject: str = ""
    validation: float = 0.2
    steps: int = 200
    images: int = 4
    questions: int = 1
    rounds: int = 2
    accumulate: int = 1
    learning_rate: float | None = None
    rank: int = 8
    slices: int = 24
    validate_every: int = 40
    patience: int = 3
    seed: int = 0
    licence: str = ""
    device: str = "auto"
    precision: str = "auto"
    cache: Path | None = None
    use_cache: bool = True
    overwrite: bool = False
    exclude: Path | None = None

    def __post_init__(self) -> None:
        if self.train not in PARTS:
            raise UsageError(f"cannot train {self.train!r}", f"Use --train {', '.join(PARTS)}")
        if self.output.suffix != SUFFIX:
            raise UsageError(
                f"{self.output.name!r} is no name of a checkpoint", f"Name it {self.output.stem or 'model'}{SUFFIX}"
            )
        if not 0 < self.validation < 1:
            raise UsageError(f"validation share of {self.validation:g}", "Use a share between 0 and 1, such as 0.2")
        if not self.tissues:
            raise UsageError("no tissue was named", "Give --tissue with a tissue, a group or all")
        try:
            re.compile(self.subject)
        except re.error as error:
            raise UsageError(f"--subject {self.subject!r} is no regular expression: {error}", "Try '^[^_]+'") from error
        counts = ("steps", "images", "questions", "rounds", "accumulate", "rank", "validate_every", "patience")
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', ' ')} of {getattr(self, name)}", "Use a number above 0")
        if self.slices < 0 or (self.learning_rate is not None and not 0 < self.learning_rate < 1):
            raise UsageError("slices below 0 or a learning rate outside 0…1", "Leave them out")

    @property
    def work(self) -> Path:
        """Folder of the run's state."""
        return self.output.with_suffix(".work")

    def mate(self, suffix: str) -> Path:
        """A file beside the checkpoint: ".csv", ".png" or ".md"."""
        return self.output.with_suffix(suffix)
