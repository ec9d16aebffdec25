"""What a fine-tuning run says about itself: summary, curves and model card. Numbers of subjects, never their names."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from msksam_cli.core.tissues import TissueTable
from msksam_cli.io.curves import Chart, Curve
from msksam_cli.io.tables import aligned_text
from msksam_cli.pipeline.environment import package_versions
from msksam_cli.pipeline.finetune_scores import SCORED_SLICES
from msksam_cli.training.loop import Recipe

_LEARNT = {
    "decoder": "the prompt encoder and the mask decoder; the image encoder is the parent's, bit for bit",
    "all": "every weight",
    "lora": "the prompt encoder, the mask decoder, and low-rank corrections of the image encoder, merged into it",
}
_BLUE, _ORANGE, _GREY = "#3465a4", "#c4601d", "#888a85"


@dataclass(frozen=True, eq=False)
class FinetuneFacts:
    """Everything the card of a fine-tuned model says; Dice values are of validation volumes."""

    name: str
    architecture: str
    parent: str
    parent_sha256: str
    parent_licence: str
    licence: str
    part: str
    training_subjects: int
    training_cases: int
    validation_subjects: int
    validation_cases: int
    data_sha256: str
    preprocessing: str
    normalisation: str
    recipe: Recipe
    steps_done: int
    best_step: int
    tissues: TissueTable
    sha256: str = ""
    slices: int = 0
    weights: int = 0
    before: Mapping[int, Sequence[float]] = field(default_factory=dict)
    after: Mapping[int, Sequence[float]] = field(default_factory=dict)
    mean_before: float = 0.0
    mean_after: float = 0.0
    minutes: float = 0.0


def summary_text(facts: FinetuneFacts) -> str:
    """The result as a table for people."""
    rows = [*_rows(facts), ("mean", str(facts.validation_cases), f"{facts.mean_before:.3f}", f"{facts.mean_after:.3f}")]
    table = aligned_text(("tissue", "volumes", f"Dice of {facts.parent}", f"Dice of {facts.name}"), rows)
    return (
        f"{table}\n{facts.training_subjects} subjects learnt from, {facts.validation_subjects} for validation; "
        f"best after {facts.best_step} of {facts.steps_done} steps; {facts.minutes:.1f} min"
    )


def summary_values(facts: FinetuneFacts) -> dict[str, object]:
    """The result as plain values."""
    return {
        "name": facts.name,
        "sha256": facts.sha256,
        "parent": facts.parent,
        "trained": facts.part,
        "training_subjects": facts.training_subjects,
        "validation_subjects": facts.validation_subjects,
        "steps": facts.steps_done,
        "best_step": facts.best_step,
        "minutes": round(facts.minutes, 2),
        "dice_before": round(facts.mean_before, 4),
        "dice_after": round(facts.mean_after, 4),
        "tissues": {
            facts.tissues.by_index(index).name: {
                "volumes": len(values),
                "dice_before": round(float(np.mean(values)), 4),
                "dice_after": round(float(np.mean(facts.after[index])), 4),
            }
            for index, values in facts.before.items()
        },
    }


def training_charts(log: Sequence[Mapping[str, str]]) -> list[Chart]:
    """Loss and validation Dice over the steps of a log."""
    losses = tuple((float(row["step"]), float(row["loss"])) for row in log if row["loss"])
    looks = tuple((float(row["step"]), float(row["validation"])) for row in log if row["validation"])
    start = ((looks[0][0], looks[0][1]), (looks[-1][0], looks[0][1]))
    return [
        Chart("Training", "step", "loss", (Curve("mean of the steps before", _BLUE, losses),)),
        Chart(
            "Validation volumes",
            "step",
            "mean Dice",
            (Curve("before training", _GREY, start), Curve("averaged weights", _ORANGE, looks, dots=True)),
        ),
    ]


def card_text(facts: FinetuneFacts) -> str:
    """The model card as Markdown."""
    rows = "\n".join(f"| {' | '.join(row)} |" for row in _rows(facts))
    return f"""# {facts.name}

{_bullets(_origin(facts))}

## Validation

Volume Dice with boxes from the truth, each side off by up to 5 %, mean ± sd over volumes; of a volume with more than
{SCORED_SLICES} labelled slices every n-th:

| tissue | volumes | {facts.parent} | {facts.name} |
| --- | --- | --- | --- |
{rows}
| mean | {facts.validation_cases} | {facts.mean_before:.3f} | {facts.mean_after:.3f} |

## Limits

{_bullets(_limits(facts))}
"""


def _origin(facts: FinetuneFacts) -> list[str]:
    """What it is, what it may be used for, and how it came about."""
    recipe, stage = facts.recipe, facts.recipe.stages[0]
    settings = ", ".join(f"{key} {value:g}" for key, value in _numbers(recipe).items())
    return [
        f"**What it is**: {facts.parent} ({facts.architecture}, sha256 `{facts.parent_sha256}`) after "
        f"`msksam finetune --train {facts.part}`. What learnt: {_LEARNT[facts.part]}; {facts.weights:,} weights. Use "
        f"it with `msksam segment --model {facts.name}.safetensors`. Its own sha256: `{facts.sha256}`.",
        f"**Licence**: {facts.licence or 'not stated by whoever trained it'}. The parent's: "
        f"{facts.parent_licence or 'not known'}. That of the data may bind as well.",
        f"**Data**: {_count(facts.training_subjects, 'subject')} ({_count(facts.training_cases, 'volume')}, "
        f"{_count(facts.slices, 'labelled slice')}) to learn from, {_count(facts.validation_subjects, 'other')} "
        f"({_count(facts.validation_cases, 'volume')}) to decide when to stop. Files and split: sha256 "
        f"`{facts.data_sha256}`.",
        f"**Tissues**: {', '.join(f'{tissue.index} {tissue.name}' for tissue in facts.tissues)}.",
        f"**Preprocessing**: `{facts.preprocessing}`, normalisation `{facts.normalisation}`, input {stage.side_px} px.",
        f"**Recipe**: {_count(stage.steps, 'step')} planned, {facts.steps_done} done, the averaged weights after "
        f"{facts.best_step} kept; in a batch {_count(stage.images, 'slice')} with {_count(stage.questions, 'prompt')} "
        f"each, asked in {_count(recipe.rounds, 'round')} (jittered box and points; then one correcting point, and the "
        f"last answer as a mask); AdamW along half a cosine, {settings}; "
        f"{'bfloat16' if recipe.bf16 else 'float32'} arithmetic; seed {recipe.seed}.",
        f"**Versions**: {', '.join(f'{name} {version}' for name, version in package_versions().items())}.",
    ]


def _limits(facts: FinetuneFacts) -> list[str]:
    reach = (
        f"No step made the validation volumes better: these are the weights of {facts.parent}."
        if facts.best_step == 0
        else f"{_count(facts.validation_subjects, 'subject')} to measure on: the numbers above are rough."
    )
    return [
        "These volumes chose when to stop, so the last column is a little too good: test on subjects of neither group.",
        reach,
        "It was asked with boxes from the truth; prompts from an atlas are worse, and so are the masks.",
        "Scanners, sequences, tissues and diseases other than those of the data were not tested.",
        "Not a medical device. For research.",
    ]


def _bullets(texts: Sequence[str]) -> str:
    return "\n".join(
        textwrap.fill(f"- {text}", 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for text in texts
    )


def _count(number: int, what: str) -> str:
    """A number and its noun.

    >>> _count(1, "slice"), _count(2, "slice")
    ('1 slice', '2 slices')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def _rows(facts: FinetuneFacts) -> list[tuple[str, str, str, str]]:
    return [
        (facts.tissues.by_index(index).name, str(len(values)), _spread(values), _spread(facts.after[index]))
        for index, values in facts.before.items()
    ]


def _spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation; the mean alone of a single value."""
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def _numbers(recipe: Recipe) -> dict[str, float]:
    """Settings of the optimiser by name."""
    wanted = ("learning_rate", "warmup_steps", "weight_decay", "ema_decay", "clip_norm", "accumulate")
    return {name.replace("_", " "): float(value) for name, value in asdict(recipe).items() if name in wanted}
