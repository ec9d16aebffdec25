from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from msksam_cli.embeddings import Embedding
from msksam_cli.errors import CacheError, EnvironmentFault
from msksam_cli.sam import encode
from msksam_cli.sam.encode import Launched, encode_slices, encoder_sha256, in_batches, model_input
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.runtime import Model
from msksam_cli.sam.vision_shim import import_modeling

Slices = Callable[..., np.ndarray]
SHAPES = [(64, 96), (130, 90), (200, 200), (31, 90)]
HALF_PRECISION_STEP = 2.0**-11


def test_an_embedding_equals_segment_anythings_own_to_half_precision(vit: Model, blobs: Slices) -> None:
    import_modeling()
    from segment_anything import SamPredictor

    judge = SamPredictor(vit.sam)
    for shape in SHAPES:
        judge.set_image(np.repeat(blobs(shape)[:, :, None], 3, axis=2))
        theirs = judge.get_image_embedding()[0].numpy()
        (ours,) = vit.encode([blobs(shape)])
        assert ours.features.dtype == np.float16
        assert ours.slice_shape == shape
        np.testing.assert_allclose(ours.features, theirs, rtol=HALF_PRECISION_STEP, atol=1e-4)


def test_slices_together_give_the_same_bits_as_one_by_one(small: Model, blobs: Slices) -> None:
    slices = [blobs(shape, seed) for seed, shape in enumerate(SHAPES)]
    together = small.encode(slices)
    assert np.abs(together[0].features.astype(float) - together[1].features.astype(float)).max() > 0.1
    for embedding, pixels in zip(together, slices, strict=True):
        (alone,) = small.encode([pixels])
        assert embedding.slice_shape == pixels.shape
        assert embedding.features.tobytes() == alone.features.tobytes()


def test_a_batch_through_the_network_equals_one_by_one_to_half_precision(small: Model, blobs: Slices) -> None:
    slices = [blobs(shape, seed) for seed, shape in enumerate(SHAPES)]
    with torch.inference_mode():
        resized = [Frame(pixels.shape, 384).resize(pixels) for pixels in slices]
        batch = small.sam.image_encoder(model_input(small.sam, resized)).numpy()
    for features, embedding in zip(batch, small.encode(slices), strict=True):
        np.testing.assert_allclose(embedding.features, features, rtol=HALF_PRECISION_STEP, atol=1e-3)


def test_bf16_embeddings_are_near_single_precision_but_not_it(small: Model, blobs: Slices) -> None:
    (exact,) = encode_slices(small.sam, [blobs((90, 120))], precision="fp32")
    (rough,) = encode_slices(small.sam, [blobs((90, 120))], precision="bf16")
    difference = rough.features.astype(np.float64) - exact.features.astype(np.float64)
    assert 1e-4 < np.linalg.norm(difference) / np.linalg.norm(exact.features.astype(np.float64)) < 3e-2


def test_no_slices_give_no_embeddings(small: Model) -> None:
    assert small.encode([]) == []


def test_the_padding_is_nought_after_normalising(tiny_vit: Model) -> None:
    images = model_input(tiny_vit.sam, [np.full((128, 256), 255, np.uint8)])
    assert images.shape == (1, 3, 256, 256)
    assert (images[0, :, 128:] == 0).all()
    assert images[0, :, 0, 0].tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-3)


def test_the_encoders_hash_follows_the_encoder_and_not_the_decoder(tiny_vit: Model) -> None:
    sam, before = tiny_vit.sam, tiny_vit.encoder_sha256
    assert encoder_sha256(sam, "tiny_vit") == before
    assert encoder_sha256(sam, "other") != before
    changes = {sam.mask_decoder.iou_token.weight: True, sam.image_encoder.neck[1].bias: False}
    for parameter, same in changes.items():
        with torch.no_grad():
            parameter.flatten()[0] += 1e-4
            assert (encoder_sha256(sam, "tiny_vit") == before) is same
            parameter.flatten()[0] -= 1e-4


class Device:
    """What a GPU does with batches, and what it was asked for, in order."""

    def __init__(self, largest: int) -> None:
        self.largest, self.events = largest, list[str]()

    def launch(self, batch: Sequence[np.ndarray]) -> Launched:
        number = len(batch)
        if number > self.largest:
            self.events.append(f"full at {number}")
            raise torch.OutOfMemoryError("CUDA out of memory")
        first = int(batch[0][0, 0])
        self.events.append(f"launch {first}")

        def wait() -> np.ndarray:
            self.events.append(f"wait {first}")
            return np.array([pixels[0, 0] for pixels in batch], np.float16)

        return Launched(wait)


def test_batches_are_halved_until_they_fit_and_none_is_lost() -> None:
    device = Device(2)
    features = in_batches(device.launch, iter([np.full((2, 3), value, np.uint8) for value in range(11)]), 8)
    assert [int(value) for value in features] == list(range(11))
    assert device.events[:3] == ["full at 8", "full at 4", "launch 0"]


def test_a_batch_is_launched_before_the_one_before_it_is_waited_for() -> None:
    device = Device(9)
    list(in_batches(device.launch, iter([np.full((2, 3), value, np.uint8) for value in range(5)]), 2))
    assert device.events == ["launch 0", "launch 2", "wait 0", "launch 4", "wait 2", "wait 4"]


def test_one_slice_that_does_not_fit_is_an_environment_fault() -> None:
    with pytest.raises(EnvironmentFault, match="one slice of 5 x 7 pixels does not fit"):
        list(in_batches(Device(0).launch, iter([np.zeros((5, 7), np.uint8)]), 8))


@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("on_cpu", [True, False], ids=["one by one", "in batches"])
def test_each_embedding_is_handed_over_once_under_its_number(
    small: Model, blobs: Slices, monkeypatch: pytest.MonkeyPatch, on_cpu: bool, batch_size: int | None
) -> None:
    monkeypatch.setattr(encode, "is_on_cpu", lambda sam: on_cpu)
    slices = [blobs((40 + 8 * n, 50), n) for n in range(5)]
    handed: dict[int, Embedding] = {}

    def keep(number: int, embedding: Embedding) -> None:
        assert number not in handed
        handed[number] = embedding

    embeddings = small.encode(slices, batch_size, keep)
    assert sorted(handed) == list(range(5))
    assert all(handed[number] is embedding for number, embedding in enumerate(embeddings))


def test_what_cannot_be_kept_ends_the_encoding(small: Model, blobs: Slices) -> None:
    def keep(number: int, embedding: Embedding) -> None:
        raise CacheError("the disk is full", "Make room")

    with pytest.raises(CacheError):
        small.encode([blobs((40, 50))], None, keep)
