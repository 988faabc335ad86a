"""ECCV Caption and CxC on COCO's 5,000 test images, through the ``eccv_caption`` package.

They count further captions and images that people judged to match (Chun et al., "ECCV Caption",
ECCV 2022).
"""

from __future__ import annotations

from eccv_caption import Metrics

from vsepp.data.splits import Split
from vsepp.evaluate import Embedded
from vsepp.retrieval import nearest, similarity_of

DEPTH = 50
"""The longest list of relevant items in the package's annotations has 48."""
WANTED = ("eccv_map_at_r", "eccv_rprecision", "eccv_r1", "cxc_recalls")


def extended_metrics(embedded: Embedded, split: Split, measure: str) -> dict[str, dict[str, float]]:
    """Each metric in percent, in both directions; empty if the split is not the whole 5K test."""
    metrics = Metrics()
    images, captions = keys_of(split, metrics)
    if len(embedded.images) != len(images) or set(captions) != set(metrics.coco_ids.tolist()):
        return {}
    similarity = similarity_of(measure)
    i2t = nearest(similarity, embedded.images, embedded.captions, DEPTH).tolist()
    t2i = nearest(similarity.swapped(), embedded.captions, embedded.images, DEPTH).tolist()
    found = metrics.compute_all_metrics(
        {image: [captions[j] for j in row] for image, row in zip(images, i2t, strict=True)},
        {caption: [images[i] for i in row] for caption, row in zip(captions, t2i, strict=True)},
        target_metrics=WANTED,
        Ks=(1, 5, 10),
        verbose=False,
    )
    return {
        name: {way: 100.0 * float(value) for way, value in ways.items()}
        for name, ways in found.items()
    }


def keys_of(split: Split, metrics: Metrics) -> tuple[list[int], list[int]]:
    """COCO's numbers of the images and captions; precomputed splits follow the released order."""
    if split.caption_keys:
        return list(split.image_keys), list(split.caption_keys)
    captions = [int(key) for key in metrics.coco_ids]
    image_of = metrics.coco_gts["t2i"]
    return list(dict.fromkeys(image_of[caption][0] for caption in captions)), captions
