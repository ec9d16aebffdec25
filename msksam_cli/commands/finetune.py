"""`msksam finetune`: a model made one's own with a few labelled cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import DeviceOption, JsonOption, ModelOption


def finetune(
    cases: Annotated[Path, typer.Argument(help="Folder with images/ and labels/, or imagesTr/ and labelsTr/.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write, NAME.safetensors.")],
    model: ModelOption = "msksam-small",
    train: Annotated[str, typer.Option(help="decoder, all or lora.")] = "decoder",
    tissue: Annotated[str, typer.Option(help="Tissues or groups, separated by commas, or all.")] = "all",
    labels: Annotated[Path | None, typer.Option(help="TSV that names the labels (BIDS dseg: index, name, …).")] = None,
    subject: Annotated[str, typer.Option(help="Regular expression for the subject in a case's name.")] = "",
    validation: Annotated[float, typer.Option(help="Share of the subjects kept for validation.")] = 0.2,
    steps: Annotated[int, typer.Option(help="Most steps.")] = 200,
    images: Annotated[int, typer.Option(help="Slices in a batch.")] = 4,
    questions: Annotated[int, typer.Option(help="Prompts a slice is asked.")] = 1,
    rounds: Annotated[int, typer.Option(help="Rounds a prompt is asked, each correcting the last.")] = 2,
    accumulate: Annotated[int, typer.Option(help="Batches in a step.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(help="Highest rate.", show_default="by --train")] = None,
    rank: Annotated[int, typer.Option(help="Rank of the corrections of --train lora.")] = 8,
    slices: Annotated[int, typer.Option(help="Most slices of a volume learnt from; 0 for all.")] = 24,
    validate_every: Annotated[int, typer.Option(help="Steps between two looks at the validation volumes.")] = 40,
    patience: Annotated[int, typer.Option(help="Looks without a better Dice after which it ends.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    licence: Annotated[str, typer.Option(help="Licence of the result, for its card.")] = "",
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 (training as well), bf16 or fp16.")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="Folder of embeddings.", show_default="user cache")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no embeddings on disk.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin again and replace what is there.")] = False,
    exclude: Annotated[
        Path | None, typer.Option(help="review.csv of a report (rejected cases), or a list of cases to leave out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model on labelled cases; a killed run resumes."""
    import json

    from msksam_cli.pipeline.finetune import finetune as run
    from msksam_cli.pipeline.finetune_options import FinetuneOptions
    from msksam_cli.pipeline.finetune_report import summary_text, summary_values

    tissues = tuple(name.strip() for name in tissue.split(",") if name.strip())
    options = FinetuneOptions(
        cases, output, model, train, tissues, labels, subject, validation, steps, images, questions, rounds, accumulate,
        learning_rate, rank, slices, validate_every, patience, seed, licence, device, precision, cache, not no_cache,
        overwrite, exclude,
    )  # fmt: skip
    result = run(options)
    if result is None:
        return
    typer.echo(json.dumps(summary_values(result.facts), indent=2) if as_json else summary_text(result.facts))
    if result.unmatched:
        typer.echo(f"msksam: without partner, not used: {', '.join(result.unmatched)}", err=True)
        raise typer.Exit(3)
