"""msksam: batch segmentation of musculoskeletal MRI with the Segment Anything Model.

The functions below take the options of the commands of the same name and return the frozen results the commands
print. Each imports what it needs when it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msksam_cli.pipeline.build_atlas import BuiltAtlas
    from msksam_cli.pipeline.compare_result import ModelComparison
    from msksam_cli.pipeline.evaluate import Evaluation
    from msksam_cli.pipeline.export import Exported
    from msksam_cli.pipeline.finetune import Finetuned
    from msksam_cli.pipeline.segment_run import SegmentRun

__all__ = ["__version__", "build_atlas", "compare", "evaluate", "export_onnx", "finetune", "segment"]
__version__ = "0.1.0"


def segment(study: str | Path, tissues: tuple[str, ...] | list[str], **options: Any) -> SegmentRun:
    """Segment a study; `options` are fields of `pipeline.segment_options.SegmentOptions`.

    Raises:
        MsksamError: as `msksam segment` would fail; its `exit_code` is the command's.
    """
    from msksam_cli.pipeline.segment import run_segment
    from msksam_cli.pipeline.segment_options import SegmentOptions

    return run_segment(SegmentOptions(Path(study), tuple(tissues), **options))


def evaluate(predictions: str | Path, references: str | Path, output: str | Path, **options: Any) -> Evaluation:
    """Compare label volumes with a reference; `options` are fields of `pipeline.evaluate.EvaluateOptions`.

    Raises:
        MsksamError: as `msksam evaluate` would fail.
    """
    from msksam_cli.pipeline.evaluate import EvaluateOptions
    from msksam_cli.pipeline.evaluate import evaluate as run

    return run(EvaluateOptions(Path(predictions), Path(references), Path(output), **options))


def compare(cases: str | Path, **options: Any) -> ModelComparison:
    """Compare atlas alone, atlas prompts and true prompts on a labelled set.

    `options` are fields of `pipeline.compare.CompareOptions`; without `output` nothing is written.

    Raises:
        MsksamError: as `msksam compare` would fail.
    """
    from msksam_cli.pipeline.compare import CompareOptions
    from msksam_cli.pipeline.compare import compare as run

    return run(CompareOptions(Path(cases), **options))


def build_atlas(cases: str | Path, output: str | Path, **options: Any) -> BuiltAtlas:
    """Build an atlas from labelled cases; `options` are fields of `pipeline.build_atlas.BuildAtlasOptions`.

    Raises:
        MsksamError: as `msksam atlas build` would fail.
    """
    from msksam_cli.pipeline.build_atlas import BuildAtlasOptions
    from msksam_cli.pipeline.build_atlas import build_atlas as build

    return build(BuildAtlasOptions(Path(cases), Path(output), **options))


def finetune(cases: str | Path, output: str | Path, **options: Any) -> Finetuned | None:
    """Fine-tune a model on labelled cases; `options` are fields of `pipeline.finetune_options.FinetuneOptions`.

    Returns:
        What was done; None in those processes of torchrun that do not write.

    Raises:
        MsksamError: as `msksam finetune` would fail.
    """
    from msksam_cli.pipeline.finetune import finetune as run
    from msksam_cli.pipeline.finetune_options import FinetuneOptions

    return run(FinetuneOptions(Path(cases), Path(output), **options))


def export_onnx(model: str = "msksam-small", output: str | Path | None = None, **options: Any) -> Exported:
    """Export a model to ONNX; `options` are fields of `pipeline.export.ExportOptions`.

    Raises:
        MsksamError: as `msksam export-onnx` would fail.
    """
    from msksam_cli.pipeline.export import ExportOptions
    from msksam_cli.pipeline.export import export_onnx as run

    return run(ExportOptions(str(model), Path(output) if output else None, **options))
