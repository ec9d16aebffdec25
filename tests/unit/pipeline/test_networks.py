from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import Volume
from msksam_cli.errors import UsageError
from msksam_cli.pipeline.networks import load_network, network_for
from msksam_cli.pipeline.segment_options import SegmentOptions


def options(**chosen: object) -> SegmentOptions:
    return SegmentOptions(Path("study"), ("bone",), device="cpu", **chosen)  # type: ignore[arg-type]


def volume(*shape: int) -> Volume:
    grid = Grid(shape, np.diag([0.5, 0.5, 3.0, 1.0]))  # type: ignore[arg-type]
    return Volume(np.zeros(shape, np.float32), grid)


def test_without_a_wish_slices_are_seen_at_the_networks_own_side() -> None:
    own = load_network(options())
    assert own.image_side_px == 384
    assert network_for(volume(100, 90, 5), options(), own) is own


def test_a_side_in_pixels_holds_for_every_volume() -> None:
    chosen = options(encode_size=256)
    network = load_network(chosen)
    assert network.image_side_px == 256
    assert network_for(volume(100, 90, 5), chosen, network) is network


@pytest.mark.parametrize(("shape", "side_px"), [((100, 90, 5), 112), ((200, 257, 4), 272), ((512, 400, 4), 384)])
def test_slices_are_seen_at_their_own_side_but_no_larger_than_the_networks(shape, side_px: int) -> None:
    chosen = options(encode_size="slice")
    own = load_network(chosen)
    network = network_for(volume(*shape), chosen, own)
    assert network.image_side_px == side_px
    assert network.weights_sha256 == own.weights_sha256
    assert network_for(volume(*shape), chosen, own) is network, "loaded once"


def test_a_side_the_network_cannot_have_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot see 250 px"):
        load_network(options(encode_size=250))


def test_a_checkpoint_replaced_under_its_name_is_loaded_anew(small_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "site.safetensors"
    file.write_bytes(small_checkpoint.read_bytes())
    chosen = options(model=str(file), encode_size="slice")
    first = load_network(chosen)
    image = volume(first.image_side_px // 2, 60, 4)
    before = network_for(image, chosen, first)
    bundled = load_network(options())
    file.write_bytes((Path(__file__).parents[3] / "models/checkpoints/msksam-small.safetensors").read_bytes())
    second = load_network(chosen)
    assert second.weights_sha256 == bundled.weights_sha256 != first.weights_sha256
    assert network_for(image, chosen, second).weights_sha256 == second.weights_sha256
    assert before.weights_sha256 == first.weights_sha256
