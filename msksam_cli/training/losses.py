"""What a mask prediction is punished for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_BCE_WEIGHT = 1.0
_DICE_WEIGHT = 1.0
_IOU_WEIGHT = 1.0
_AMBIGUOUS_WEIGHT = 0.3


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice loss + binary cross-entropy near the mask, per mask.

    Cross-entropy is averaged over the mask's own area rather than over the image, so that a small meniscus weighs as
    much as a femur.

    Args:
        logits: (..., h, w) float.
        truth: (..., h, w) float of 0 and 1, broadcastable to the logits.

    Returns:
        (...) float loss.
    """
    probability = torch.sigmoid(logits)
    area = truth.sum((-2, -1))
    overlap = (probability * truth).sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (probability.sum((-2, -1)) + area + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none")
    return _DICE_WEIGHT * dice + _BCE_WEIGHT * entropy.sum((-2, -1)) / (area + 32)


def sam_loss(low_res_logits: Tensor, iou_predictions: Tensor, truth: Tensor) -> Tensor:
    """Loss of the decoder's four masks, as segment-anything was trained: the first must fit, the best of the rest too.

    Args:
        low_res_logits: (N, 4, h, w) float.
        iou_predictions: (N, 4) float.
        truth: (N, h, w) float of 0 and 1.

    Returns:
        Scalar.
    """
    losses = mask_loss(low_res_logits, truth[:, None])
    with torch.no_grad():
        inside = low_res_logits > 0
        wanted = truth[:, None] > 0.5
        union = (inside | wanted).sum((-2, -1)).clamp(min=1)
        iou = (inside & wanted).sum((-2, -1)) / union
    iou_loss = (iou_predictions - iou).square().mean()
    best = losses[:, 1:].min(dim=1).values
    return losses[:, 0].mean() + _AMBIGUOUS_WEIGHT * best.mean() + _IOU_WEIGHT * iou_loss
