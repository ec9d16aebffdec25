"""From a batch to its loss: several rounds of questions, as segment-anything was trained.

The first round asks with a box, with points, or with both. Each later round adds one point where the last answer was
wrong and gives that answer back as a mask prompt (Kirillov et al., Segment Anything, ICCV 2023, appendix A).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from msksam_cli.sam.model import Sam, box_mask_prompt
from msksam_cli.training.dataset import Batch
from msksam_cli.training.losses import sam_loss


class Lesson(nn.Module):
    """A network in training; calling it with a batch gives the batch's loss.

    Args:
        sam: the network; parts that do not learn have `requires_grad` off.
        box_as_mask: whether boxes are also given as dense masks, see `box_mask_prompt`.
        rounds: rounds a question is asked.
        bf16: whether the arithmetic that bears it runs in bfloat16.
    """

    def __init__(self, sam: Sam, *, box_as_mask: bool = True, rounds: int = 1, bf16: bool = True) -> None:
        super().__init__()
        self.sam = sam
        self._box_as_mask = box_as_mask
        self._rounds = rounds
        self._bf16 = bf16

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of all questions and rounds of a batch."""
        device, side_px = self.sam.device, self.sam.image_encoder.img_size
        truth = batch.masks.to(device).flatten(0, 1).float()  # (N, H, W) of the N = B P questions of all B images
        embeddings = self._embeddings(batch).repeat_interleave(batch.masks.shape[1], dim=0)  # (N, 256, h, w), H = 4 h
        boxes = batch.boxes_xyxy.to(device).flatten(0, 1) if batch.use_box else None  # (N, 4)
        points: Tensor | None = None
        labels: Tensor | None = None
        if batch.use_points or boxes is None:
            points = batch.points_xy.to(device).flatten(0, 1)  # (N, K, 2)
            labels = batch.point_labels.to(device).flatten(0, 1)  # (N, K)
        mask_prompt = None
        if boxes is not None and self._box_as_mask:
            mask_prompt = box_mask_prompt(boxes, side_px, truth.shape[-1])  # (N, 1, H, W)
        draw = torch.Generator(device).manual_seed(batch.seed)
        losses = []
        for number in range(self._rounds):
            if mask_prompt is not None and number:
                xy, foreground = correction_points(
                    mask_prompt > self.sam.mask_threshold, truth[:, None] > 0.5, side_px, draw
                )
                points = xy if points is None else torch.cat([points, xy], dim=1)
                labels = foreground if labels is None else torch.cat([labels, foreground], dim=1)
            logits, scores = self._answer(embeddings, points, labels, boxes, mask_prompt)
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

    def _answer(
        self,
        embeddings: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        mask_prompt: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Low-res logits (N, 4, H, W) and IoU predictions (N, 4).

        segment-anything's decoder adds one image's embedding to the dense prompt of each of its questions. Here each
        question brings its own image's embedding with its dense prompt, and the one image is nought.
        """
        sparse, dense = self.sam.prompt_encoder(
            points=None if points is None else (points, labels), boxes=boxes, masks=mask_prompt
        )
        with self._arithmetic(embeddings.device):
            logits, scores = self.sam.mask_decoder.predict_masks(
                image_embeddings=torch.zeros_like(embeddings[:1]),
                image_pe=self.sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=embeddings + dense,
            )
        return logits.float(), scores.float()

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
