"""The work folder of a fine-tuning run: what it belongs to, and when it may be used again."""

from __future__ import annotations

from msksam_cli import __version__
from msksam_cli.errors import UsageError
from msksam_cli.io.atomic import clean_temporaries, remove_file
from msksam_cli.io.tables import read_json, write_json
from msksam_cli.pipeline.finetune_cases import CaseSet
from msksam_cli.pipeline.finetune_options import FinetuneOptions
from msksam_cli.sam.runtime import Model
from msksam_cli.training.distributed import Peers
from msksam_cli.training.loop import LOG_FILE, STATE_FILE

_SETUP_FILE = "setup.json"
_WITHOUT_EFFECT = frozenset(
    ("cases", "output", "model", "labels_table", "cache", "use_cache", "overwrite", "device", "licence")
)


def plain_setup(options: FinetuneOptions, cases: CaseSet, model: Model, peers: Peers) -> dict[str, object]:
    """Everything the trained weights depend on, as plain values without paths."""
    chosen = {name: value for name, value in vars(options).items() if name not in _WITHOUT_EFFECT}
    return {
        "msksam": __version__,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()},
        "model_sha256": model.weights_sha256,
        "data_sha256": cases.sha256,
        "label_values": list(cases.tissues.indices),
        "processes": peers.count,
    }


def prepare_work(options: FinetuneOptions, setup: dict[str, object]) -> None:
    """Make the work folder this run's own; the state of an equal run stays, so that it is resumed.

    Raises:
        UsageError: another run's state or checkpoint is there and `overwrite` is not set.
        EnvironmentFault: the folder cannot be written.
    """
    path = options.work / _SETUP_FILE
    known = read_json(path) if path.is_file() else None
    if known != setup and not options.overwrite and (known is not None or options.output.exists()):
        raise UsageError(
            f"{(options.output if known is None else options.work).name} comes from a run with other cases, options or "
            "model",
            "Choose another -o, or use --overwrite",
        )
    if known != setup or options.overwrite:
        for name in (STATE_FILE, LOG_FILE):
            remove_file(options.work / name)
        write_json(path, setup)
    clean_temporaries(options.work)
