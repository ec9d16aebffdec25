"""From a batch to its loss: several rounds of questions, as segment-anything was trained.

The first round asks with a box, with points, or with both. Each later round adds one point where the last answer was
wrong and gives that answer back as a mask prompt (Kirillov et al., Segment Anything, ICCV 2023, appendix A).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from msksam_cli.sam.asking import Asking, Focus, focus_for
from msksam_cli.sam.decode import ask, layout_of, seen_of
from msksam_cli.sam.model import Sam, box_mask_prompt
from msksam_cli.sam.seen import Planes
from msksam_cli.training.dataset import Batch
from msksam_cli.training.losses import sam_loss


class Lesson(nn.Module):
    """A network in training; calling it with a batch gives the batch's loss.

    Args:
        sam: the network; parts that do not learn have `requires_grad` off.
        asking: how prompts are put to the decoder.
        rounds: rounds a question is asked.
        bf16: whether the arithmetic that bears it runs in bfloat16.
    """

    def __init__(self, sam: Sam, *, asking: Asking, rounds: int = 1, bf16: bool = True) -> None:
        super().__init__()
        self.sam = sam
        self._asking = asking
        self._rounds = rounds
        self._bf16 = bf16

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of all questions and rounds of a batch."""
        layout = layout_of(self.sam)
        embeddings = Planes.of(self._embeddings(batch), self._asking.block_in(layout.cells))  # B of them
        draw = torch.Generator(self.sam.device).manual_seed(batch.seed)
        alike: dict[int, list[int]] = {}
        boxes, points = batch.boxes_xyxy.flatten(0, 1), batch.points_xy.flatten(0, 1)
        focuses = self._focuses(
            boxes if batch.use_box else None, points if batch.use_points else None, batch.masks.flatten(0, 1).shape[0]
        )
        for number, focus in enumerate(focuses):
            alike.setdefault((focus.rows * focus.columns).bit_length(), []).append(number)
        losses = [
            self._loss(batch, embeddings, [focuses[number] for number in numbers], numbers, draw) * len(numbers)
            for numbers in alike.values()
        ]
        return torch.stack(losses).sum() / len(focuses)

    def _focuses(self, boxes: Tensor | None, points: Tensor | None, count: int) -> list[Focus]:
        """What each of `count` questions with boxes (N, 4) and points (N, K, 2) looks at closely."""
        layout = layout_of(self.sam)
        block_cells = self._asking.block_in(layout.cells)
        if boxes is None:
            return [focus_for(None, None, layout, block_cells)] * count
        more = [None] * count if points is None else list(points.cpu().numpy())
        return [focus_for(box, own, layout, block_cells) for box, own in zip(boxes.cpu().numpy(), more, strict=True)]

    def _loss(
        self, batch: Batch, embeddings: Planes, focuses: Sequence[Focus], numbers: Sequence[int], draw: torch.Generator
    ) -> Tensor:
        """Mean loss of some questions, by number, that look at much the same number of cells; N of them."""
        device, layout, each = self.sam.device, layout_of(self.sam), batch.masks.shape[1]
        truth = batch.masks.flatten(0, 1)[list(numbers)].to(device).float()  # (N, H, W), H = 4 h
        image = Planes(*(planes[[number // each for number in numbers]] for planes in embeddings))  # N of them
        seen = seen_of(focuses, layout, self._asking)
        boxes = points = labels = None
        if batch.use_box:
            boxes = batch.boxes_xyxy.flatten(0, 1)[list(numbers)].to(device)  # (N, 4)
        if batch.use_points or boxes is None:
            points = batch.points_xy.flatten(0, 1)[list(numbers)].to(device)  # (N, K, 2)
            labels = batch.point_labels.flatten(0, 1)[list(numbers)].to(device)  # (N, K)
        mask_prompt = None
        if boxes is not None and self._asking.box_as_mask:
            mask_prompt = box_mask_prompt(boxes, layout.side_px, truth.shape[-1])  # (N, 1, H, W)
        losses = []
        for number in range(self._rounds):
            if mask_prompt is not None and number:
                xy, foreground = correction_points(
                    mask_prompt > self.sam.mask_threshold, truth[:, None] > 0.5, layout.side_px, draw
                )
                points = xy if points is None else torch.cat([points, xy], dim=1)
                labels = foreground if labels is None else torch.cat([labels, foreground], dim=1)
                seen = seen_of(self._focuses(boxes, points, len(numbers)), layout, self._asking)
            logits, scores = ask(
                self.sam,
                [image],
                points=None if points is None or labels is None else (points, labels),
                boxes=boxes,
                mask_prompts=mask_prompt,
                seen=seen,
                arithmetic=self._arithmetic(device),
            )
            logits, scores = logits.float(), scores.float()
            losses.append(sam_loss(logits - self.sam.mask_threshold, scores, truth))
            best = scores.detach().argmax(dim=1)  # (N,)
            mask_prompt = logits.detach()[torch.arange(len(best), device=device), best][:, None]  # (N, 1, H, W)
        return torch.stack(losses).mean()

    def _embeddings(self, batch: Batch) -> Tensor:
        device = self.sam.device
        if batch.embeddings is not None:
            return batch.embeddings.to(device, torch.float32)
        images = batch.images_on(device).float()[:, None].expand(-1, 3, -1, -1)  # (B, 3, S, S)
        images = (images - self.sam.pixel_mean) / self.sam.pixel_std
        if batch.extents is not None:
            images = images * _inside(batch.extents.to(device), images.shape[-1])
        with self._arithmetic(device):
            return cast(Tensor, self.sam.image_encoder(images))

    def _arithmetic(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self._bf16)


def correction_points(found: Tensor, truth: Tensor, side_px: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """One point per mask, drawn from where it is wrong: foreground where something was missed, else background.

    A mask without an error gives a point inside the truth.

    Args:
        found: (P, 1, H, W) bool.
        truth: (P, 1, H, W) bool, each mask with some true pixels.
        side_px: side of the model's input.
        draw: source of the draw, on the masks' device.

    Returns:
        Points (P, 1, 2) float32 in model pixels, and their labels (P, 1) int32, on the masks' device.
    """
    wanted, wrong = truth.flatten(1), (found ^ truth).flatten(1)  # (P, H W)
    chances = torch.where(wrong.any(dim=1, keepdim=True), wrong, wanted).float()
    chosen = torch.multinomial(chances, 1, generator=draw)  # (P, 1)
    width, low_res_px = truth.shape[-1], side_px / truth.shape[-1]
    xy = torch.stack([chosen % width, chosen // width], dim=-1)  # (P, 1, 2)
    return (xy + 0.5) * low_res_px - 0.5, wanted.gather(1, chosen).int()


def _inside(extents: Tensor, side_px: int) -> Tensor:
    """(B, 1, S, S) float: 1 where an image lies, 0 where it is padding."""
    index = torch.arange(side_px, device=extents.device)
    rows, columns = index < extents[:, :1], index < extents[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()
