from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from msksam_cli.sam.asking import Asking
from msksam_cli.sam.model import ARCHITECTURES, Architecture, build_sam, vit_encoder
from msksam_cli.training.dataset import Batch
from msksam_cli.training.lesson import Lesson, correction_points

TINY_VIT = Architecture(
    "tiny_vit", 64, 16, asking=Asking(),
    make_encoder=partial(vit_encoder, embed_dim=16, depth=1, num_heads=2, global_attn_indexes=(0,)),
)  # fmt: skip
VIT_LOW_RES = 16
SMALL = ARCHITECTURES["msksam_small"].asking
TENSORS = ("images", "masks", "boxes_xyxy", "points_xy", "point_labels")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _network(architecture="msksam_small", side_px=32):
    torch.manual_seed(1)
    return build_sam(architecture, side_px).train()


def _batch(side_px=32, low_res=32, images=2, **changes):
    """Two images, each with a bright and a dark rectangle to find."""
    y, x = np.mgrid[0:low_res, 0:low_res] / low_res
    first, second = (y > 0.2) & (y < 0.6) & (x > 0.1) & (x < 0.8), (y > 0.65) & (x > 0.3) & (x < 0.7)
    masks = torch.from_numpy(np.stack([np.stack([first, second])] * images))
    boxes = torch.tensor([[[0.1, 0.2, 0.8, 0.6], [0.3, 0.65, 0.7, 1.0]]] * images) * (side_px - 1)
    points = torch.tensor([[[[0.4, 0.4], [0.5, 0.5], [0.9, 0.9]], [[0.5, 0.8], [0.4, 0.7], [0.1, 0.1]]]] * images)
    scale = side_px // low_res
    drawn = 60 + 120 * np.kron(first, np.ones((scale, scale)))
    return replace(
        Batch(
            images=torch.from_numpy(np.stack([drawn] * images).astype(np.uint8)),
            masks=masks,
            boxes_xyxy=boxes.float(),
            points_xy=points.float() * (side_px - 1),
            point_labels=torch.tensor([[[1, 1, 0]] * 2] * images, dtype=torch.int32),
            use_box=True,
            use_points=True,
            seed=4,
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("rounds", "architecture", "side_px", "low_res"), [(1, "msksam_small", 32, 32), (2, TINY_VIT, 64, 16)]
)
def test_the_loss_of_one_batch_falls_when_it_is_learnt(rounds, architecture, side_px, low_res):
    sam = _network(architecture, side_px)
    lesson = Lesson(sam, asking=Asking(box_as_mask=architecture != TINY_VIT), rounds=rounds)
    optimizer = torch.optim.AdamW(sam.parameters(), lr=2e-3)
    batch = _batch(side_px, low_res, images=1)
    losses = []
    for _ in range(10):
        loss = lesson(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sam.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("use_box", "use_points"), [(True, False), (False, True), (True, True)])
def test_gradients_reach_every_part_of_the_network_for_every_kind_of_question(use_box, use_points):
    sam = _network()
    Lesson(sam, asking=SMALL)(_batch(images=1, use_box=use_box, use_points=use_points)).backward()
    for part in (sam.image_encoder, sam.prompt_encoder, sam.mask_decoder):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


@pytest.mark.parametrize(("use_box", "use_points"), [(True, False), (False, True), (True, True)])
def test_later_rounds_reach_the_part_that_reads_masks(use_box, use_points):
    sam = _network(TINY_VIT, 64)
    reads = sam.prompt_encoder.mask_downscaling[0].weight
    batch = _batch(64, VIT_LOW_RES, images=1, use_box=use_box, use_points=use_points)
    Lesson(sam, asking=Asking())(batch).backward()
    assert reads.grad is None
    Lesson(sam, asking=Asking(), rounds=2)(batch).backward()
    assert reads.grad.abs().sum() > 0


def test_all_images_at_once_give_the_mean_loss_of_each_alone():
    sam, batch = _network(), _batch()
    other = replace(batch, images=255 - batch.images, masks=batch.masks.flip(1), boxes_xyxy=batch.boxes_xyxy.flip(1))
    both = replace(
        batch,
        **{name: torch.cat([getattr(batch, name)[:1], getattr(other, name)[:1]]) for name in ("images", "masks")},
        boxes_xyxy=torch.cat([batch.boxes_xyxy[:1], other.boxes_xyxy[:1]]),
    )
    lesson = Lesson(sam, asking=SMALL, bf16=False)
    alone = [
        lesson(replace(both, **{name: getattr(both, name)[n : n + 1] for name in TENSORS})).detach() for n in range(2)
    ]
    assert alone[0] != alone[1]
    torch.testing.assert_close(lesson(both).detach(), (alone[0] + alone[1]) / 2, rtol=1e-5, atol=1e-5)


def test_small_boxes_are_asked_in_their_windows_and_large_ones_in_the_whole():
    sam, batch = _network(), _batch(images=1, use_points=False)
    boxes = batch.boxes_xyxy.clone()
    boxes[:, 1] = torch.tensor([11.0, 21.0, 20.0, 31.0])
    batch = replace(batch, boxes_xyxy=boxes)
    windowed = Lesson(sam, asking=replace(SMALL, window_cells=6), bf16=False, rounds=1)
    whole = Lesson(sam, asking=SMALL, bf16=False, rounds=1)

    def loss(lesson, numbers):
        return lesson(
            replace(batch, **{name: getattr(batch, name)[:, numbers] for name in TENSORS if name != "images"})
        ).detach()

    assert loss(windowed, [0]) == loss(whole, [0])
    assert loss(windowed, [1]) != loss(whole, [1])
    mean = (loss(windowed, [0]) + loss(windowed, [1])) / 2
    torch.testing.assert_close(loss(windowed, [0, 1]), mean, rtol=1e-5, atol=1e-5)


def test_embeddings_made_before_give_the_loss_of_the_images_they_were_made_of():
    sam, batch = _network(), _batch()
    with torch.no_grad():
        images = batch.images.float()[:, None].expand(-1, 3, -1, -1)
        embeddings = sam.image_encoder((images - sam.pixel_mean) / sam.pixel_std)
    lesson = Lesson(sam, asking=SMALL, bf16=False, rounds=2)
    kept = replace(batch, images=torch.empty(0), embeddings=embeddings)
    torch.testing.assert_close(lesson(kept), lesson(batch), rtol=1e-5, atol=1e-5)


def test_a_network_learns_for_the_threshold_its_answers_are_cut_at():
    sam, batch = _network(), _batch()
    lesson = Lesson(sam, asking=SMALL, bf16=False)
    with torch.no_grad():
        plain = lesson(batch)
        sam.mask_threshold = -2.0
        generous = lesson(batch)
        for network in sam.mask_decoder.output_hypernetworks_mlps:
            network.layers[-1].weight.zero_()
            network.layers[-1].bias.zero_()
        flat = lesson(batch)
        sam.mask_threshold = 2.0
        assert lesson(batch) < flat  # nothing anywhere costs less than everything everywhere, where masks are small
    assert generous != plain


def test_padding_is_nought_after_normalisation_whatever_lies_there():
    sam = _network()
    extents = torch.tensor([[20, 32], [20, 32]])
    batch = _batch(extents=extents)
    scribbled = batch.images.clone()
    scribbled[:, 20:] = 255
    lesson = Lesson(sam, asking=SMALL, bf16=False)
    assert torch.equal(lesson(replace(batch, images=scribbled)), lesson(batch))
    assert not torch.equal(lesson(replace(batch, images=scribbled, extents=None)), lesson(batch))


def test_equal_seeds_ask_equal_corrections_and_others_do_not():
    sam = _network()
    lesson = Lesson(sam, asking=SMALL, bf16=False, rounds=3)
    with torch.no_grad():
        first, again, other = (lesson(_batch(seed=seed)) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_correction_lies_where_the_answer_was_wrong_and_says_which_way():
    truth = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    truth[:, :, 2:5, 1:4] = True
    found = truth.clone()
    found[0, 0, 4, 3] = False
    found[1, 0, 7, 6] = True
    points, labels = correction_points(found, truth, 32, torch.Generator().manual_seed(0))
    assert points.shape == (3, 1, 2)
    assert points[0, 0].tolist() == [3.5 * 4 - 0.5, 4.5 * 4 - 0.5]
    assert points[1, 0].tolist() == [6.5 * 4 - 0.5, 7.5 * 4 - 0.5]
    assert labels[:, 0].tolist() == [1, 0, 1]
    column, row = ((points[2, 0] + 0.5) / 4 - 0.5).round().int().tolist()
    assert truth[2, 0, row, column]
