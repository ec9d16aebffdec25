from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from msksam_cli.embeddings import Embedding
from msksam_cli.errors import EnvironmentFault
from msksam_cli.sam.encode import encode_in_batches, encode_slices, encoder_sha256, model_input
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
        batch = small.sam.image_encoder(model_input(small.sam, slices)).numpy()
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
    images = model_input(tiny_vit.sam, [np.full((50, 100), 255, np.uint8)])
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


def encoder_that_fits(largest: int, sizes: list[int]) -> Callable[[Sequence[np.ndarray]], list[Embedding]]:
    def encode(batch: Sequence[np.ndarray]) -> list[Embedding]:
        sizes.append(len(batch))
        if len(batch) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [Embedding(np.full((1, 1, 1), pixels[0, 0], np.float16), pixels.shape) for pixels in batch]

    return encode


def test_batches_are_halved_until_they_fit_and_none_is_lost() -> None:
    slices = [np.full((2, 3), value, np.uint8) for value in range(11)]
    sizes: list[int] = []
    embeddings = encode_in_batches(encoder_that_fits(2, sizes), slices, 8)
    assert [int(embedding.features.item()) for embedding in embeddings] == list(range(11))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]


def test_one_slice_that_does_not_fit_is_an_environment_fault() -> None:
    with pytest.raises(EnvironmentFault, match="one slice of 5 x 7 pixels does not fit"):
        encode_in_batches(encoder_that_fits(0, []), [np.zeros((5, 7), np.uint8)], 8)
