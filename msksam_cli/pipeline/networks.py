"""The network that a run segments with: by runtime, and by the side at which a volume's slices are encoded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from msksam_cli.core.slicing import plane_axes
from msksam_cli.core.volume import Volume
from msksam_cli.io.resources import cache_folder
from msksam_cli.network import Network
from msksam_cli.pipeline.models import load_model
from msksam_cli.pipeline.segment_options import SegmentOptions


def load_network(options: SegmentOptions, side_px: int | None = None) -> Network:
    """The network that options ask for.

    Args:
        options: of the run.
        side_px: side at which slices are encoded; when None the one the options name, or the network's own.

    Raises:
        UsageError: an unknown model, device or precision, or a side the network cannot have.
        EnvironmentFault: the device or the runtime is not there.
        ModelError: the checkpoint is missing, changed or damaged, or was not exported.
    """
    if options.runtime == "onnx":
        from msksam_cli.pipeline.onnx_models import load_onnx_network

        return load_onnx_network(options.model, options.device)
    side_px = side_px or (options.encode_size if isinstance(options.encode_size, int) else None)
    if options.runtime == "openvino":
        from msksam_cli.pipeline.openvino_models import load_openvino_network

        return load_openvino_network(
            options.model,
            device=options.device,
            precision=options.precision,
            image_side_px=side_px,
            keep_in=_openvino_folder(options),
        )
    return load_model(options.model, device=options.device, precision=options.precision, image_side_px=side_px)


def _openvino_folder(options: SegmentOptions) -> Path | None:
    """Where translated encoders are kept: `openvino` in the cache, nowhere without one."""
    return (options.cache or cache_folder()) / "openvino" if options.use_cache else None


def network_for(volume: Volume, options: SegmentOptions, own: Network) -> Network:
    """The network that encodes a volume's slices: `own`, or where asked the same at the slices' own size."""
    if options.encode_size != "slice":
        return own
    from msksam_cli.sam.resize import side_for

    rows, columns = (volume.grid.shape[axis] for axis in plane_axes(volume.grid.slice_axis))
    side_px = side_for((rows, columns), own.image_side_px)
    return own if side_px == own.image_side_px else _at_side(options, side_px, own.weights_sha256)


@lru_cache(maxsize=4)
def _at_side(options: SegmentOptions, side_px: int, weights_sha256: str) -> Network:
    """The network at a side, loaded once for these weights: another file under the same name is another network."""
    del weights_sha256
    return load_network(options, side_px)
