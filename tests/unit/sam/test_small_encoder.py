from __future__ import annotations

import pytest
import torch

from msksam_cli.sam.small_encoder import SmallEncoder


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(2)
    return SmallEncoder(64, widths=(16, 24, 32), depths=(1, 1, 1)).eval()


@pytest.mark.parametrize("side_px", [32, 64, 96])
def test_embeddings_have_256_channels_at_a_quarter_of_any_side_divisible_by_16(encoder, side_px):
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, side_px, side_px)).shape == (2, 256, side_px // 4, side_px // 4)


def test_a_side_that_cannot_be_halved_four_times_is_refused():
    with pytest.raises(ValueError, match="input side 72 is not divisible by 16"):
        SmallEncoder(72)


def test_an_image_is_embedded_alike_alone_and_in_a_batch(encoder):
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        together = encoder(images)
        for number in range(3):
            torch.testing.assert_close(encoder(images[number : number + 1])[0], together[number], atol=1e-4, rtol=1e-4)


def test_rows_are_not_mistaken_for_columns_and_a_change_shows_where_it_is(encoder):
    image = torch.zeros(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 8:12, 48:52] = 3.0
    with torch.inference_mode():
        difference = (encoder(changed) - encoder(image)).abs().mean(dim=1)[0]
    y, x = divmod(int(difference.argmax()), 16)
    assert abs(y - 2.0) <= 2
    assert abs(x - 12.0) <= 2
