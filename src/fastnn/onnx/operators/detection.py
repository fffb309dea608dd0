"""Non-maximum suppression."""

from __future__ import annotations

import numpy as np

from .registry import operator


@operator("NonMaxSuppression", since=10)
def non_max_suppression(call, boxes, scores, max_output_boxes_per_class=None, iou_threshold=None,
                        score_threshold=None, *, center_point_box=0):
    """Of boxes that overlap by more than a share, those of the highest scores.

    boxes (N, B, 4), scores (N, classes, B); the result (M, 3) holds batch, class and box, by falling score
    within each class.
    """
    limit = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class.reshape(()))
    overlap = 0.0 if iou_threshold is None else float(iou_threshold.reshape(()))
    lowest = None if score_threshold is None else float(score_threshold.reshape(()))
    corners = _corners(boxes, center_point_box)
    chosen = [(n, k, box)
              for n in range(len(scores)) for k in range(scores.shape[1])
              for box in _suppress(corners[n], scores[n, k], limit, overlap, lowest)]
    return np.array(chosen, np.int64).reshape(-1, 3)


def _corners(boxes, center_point_box):
    """(y1, x1, y2, x2) in rising order, or from (x, y, width, height)."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if center_point_box:
        return np.concatenate((first - second / 2, first + second / 2), -1)
    return np.concatenate((np.minimum(first, second), np.maximum(first, second)), -1)


def _suppress(corners, scores, limit, overlap, lowest):
    """Indices of the boxes of one class that are kept."""
    order = np.argsort(-scores, kind="stable")
    if lowest is not None:
        order = order[scores[order] > lowest]
    kept = []
    while len(order) and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[_overlaps(corners[best], corners[order]) <= overlap]
    return kept


def _overlaps(box, others):
    """Intersection over union of a box with each of the others."""
    sides = np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0)
    common = sides.prod(-1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(-1) - common
    return np.where(union > 0, common / np.where(union > 0, union, 1), 0)
