from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from msksam_cli.sam.asking import Asking
from msksam_cli.sam.decode import ask
from msksam_cli.sam.model import ARCHITECTURES, Architecture, build_sam, vit_encoder
from msksam_cli.training import lesson as lesson_module
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
    Lesson(sam, asking=replace(SMALL, block_cells=2))(
        _batch(images=1, use_box=use_box, use_points=use_points)
    ).backward()
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


FOCUSED = replace(SMALL, block_cells=2)
UNEQUAL_BOXES = [[2.0, 3.0, 28.0, 27.0], [8.0, 8.0, 10.0, 10.0], [8.0, 8.0, 20.0, 10.0], [0.0, 0.0, 6.0, 6.0]]


def _unequal_batch(numbers):
    """Questions of one image of which the first sees all 64 cells, the others 36, 48 and 16 of them."""
    batch = _batch(images=1, use_points=False)
    several = {name: getattr(batch, name)[:, [n % 2 for n in numbers]] for name in ("points_xy", "point_labels")}
    masks = torch.zeros((1, len(numbers), 32, 32), dtype=torch.bool)
    for mask, number in zip(masks[0], numbers, strict=True):
        left, top, right, bottom = (int(edge) for edge in UNEQUAL_BOXES[number])
        mask[top : bottom + 1, left + 1 : right] = True
    boxes = torch.tensor([[UNEQUAL_BOXES[n] for n in numbers]])
    return replace(batch, masks=masks, boxes_xyxy=boxes, **several)


def test_boxes_of_all_sizes_together_teach_the_mean_of_what_each_teaches_alone():
    sam, taught = _network(), []
    lesson = Lesson(sam, asking=FOCUSED, bf16=False)
    focuses = lesson._focuses(torch.tensor(UNEQUAL_BOXES), None, 4)
    assert [focus.rows * focus.columns for focus in focuses] == [64, 36, 48, 16]
    for asked in ([0, 1, 2, 3], [0], [1], [2], [3]):
        sam.zero_grad()
        loss = lesson(_unequal_batch(asked))
        loss.backward()
        named = {name: p.grad.clone() for name, p in sam.named_parameters() if p.grad is not None}
        taught.append((loss.detach(), named))
    (loss, gradients), *alone = taught
    assert len({one.item() for one, _ in alone}) == 4
    torch.testing.assert_close(loss, torch.stack([one for one, _ in alone]).mean(), rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        mean = torch.stack([one[name] for _, one in alone if name in one]).sum(0) / 4
        scale = mean.abs().max().item()
        torch.testing.assert_close(gradient, mean, rtol=1e-3, atol=1e-4 * scale + 1e-7, msg=name)


def test_where_an_answer_is_corrected_is_looked_at_closely_from_then_on(monkeypatch):
    looked_at = []

    def spying_ask(*args, **kwargs):
        looked_at.append(kwargs["seen"].near[0].tolist())
        return ask(*args, **kwargs)

    def far_right(found, truth, side_px, draw):
        return torch.tensor([[[side_px - 1.0, 3.0]]]), torch.ones((1, 1), dtype=torch.int32)

    monkeypatch.setattr(lesson_module, "ask", spying_ask)
    monkeypatch.setattr(lesson_module, "correction_points", far_right)
    Lesson(_network(), asking=FOCUSED, bf16=False, rounds=2)(_unequal_batch([3]))
    first, second = looked_at
    assert 7 not in first, "the last cell of the first row"
    assert {*first, 7} <= set(second)


def test_a_box_that_sees_all_is_asked_as_without_blocks_and_a_small_one_is_not():
    sam = _network()
    with torch.no_grad():
        focused, whole = (
            [Lesson(sam, asking=asking, bf16=False)(_unequal_batch([number])) for number in (0, 1)]
            for asking in (FOCUSED, replace(SMALL, block_cells=None))
        )
    assert focused[0] == whole[0]
    assert focused[1] != whole[1]


@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_reach_embeddings_near_a_box_cell_by_cell_and_far_from_it_block_by_block(bf16):
    sam = _network()
    embeddings = torch.randn(1, 256, 8, 8, requires_grad=True)
    lesson = Lesson(sam, asking=FOCUSED, bf16=bf16)
    batch = _unequal_batch([1])
    (focus,) = lesson._focuses(batch.boxes_xyxy[0], None, 1)
    assert (focus.top, focus.left, focus.rows, focus.columns) == (0, 0, 6, 6)
    lesson(replace(batch, images=torch.empty(0), embeddings=embeddings)).backward()
    blocks = embeddings.grad[0].unflatten(1, (4, 2)).unflatten(3, (4, 2)).transpose(2, 3)  # (C, 4, 4, 2, 2)
    is_even = (blocks == blocks[..., :1, :1]).flatten(3).all(3).all(0)
    assert blocks.abs().amax((0, 3, 4)).min() > 0, "each cell counts, near or far"
    assert is_even[3, :].all()
    assert is_even[:, 3].all()
    assert not is_even[:3, :3].any()
    assert all(p.grad is not None for p in sam.mask_decoder.parameters())


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
