"""Mining real captions: ``python -m benchmarks.mining_captions FOLDER`` with the files of Multi30k's second task.

The first English caption of each image looks for German ones of other images: hashed character n-grams, TF-IDF and a
truncated SVD of each language, canonical correlation of the captions of one image between them. Prints how many
candidates score above every positive of their query, and the first of them; ``--page`` writes them as a page.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from hardneg import TopK
from hardneg.mining import CorpusMiner, false_negatives

CAPTIONS, FEATURES, KEPT, WIDTH = 5, 1 << 15, 500, 128
RIDGE = 0.3
"""Added to variances, as a share of their mean."""


def captions(folder: Path, language: str, images: int) -> list[str]:
    """Five captions of each image, one image after the other."""
    files = [folder / f"train.{i}.{language}.gz" for i in range(1, CAPTIONS + 1)]
    columns = [gzip.decompress(path.read_bytes()).decode().splitlines() for path in files]
    return [column[image] for image in range(min(images, len(columns[0]))) for column in columns]


def features(texts: list[str]) -> np.ndarray:
    """Centred, and nearly white."""
    grams = {"analyzer": "char_wb", "ngram_range": (3, 4), "n_features": FEATURES}
    hashed = HashingVectorizer(**grams, alternate_sign=False, norm=None)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(hashed.transform(texts))
    fitted = TruncatedSVD(KEPT, random_state=0, n_iter=2).fit(weighted[::CAPTIONS])
    x = fitted.transform(weighted)
    x -= x.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    return x @ (vectors / np.sqrt(values + RIDGE * values.mean()))


def embedded(english: list[str], german: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Both languages in the space where captions of one image correlate."""
    x, y = features(english), features(german)
    middle = [one.reshape(-1, CAPTIONS, KEPT).mean(1) for one in (x, y)]
    left, strength, right = np.linalg.svd(middle[0].T @ middle[1] / len(middle[0]))
    sides = x @ left[:, :WIDTH], y @ right[:WIDTH].T
    return tuple((one * strength[:WIDTH]).astype(np.float32) for one in sides)


def main() -> None:
    """Embed, mine, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=29_000)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    english, german = (captions(options.folder, name, options.images) for name in ("en", "de"))
    queries, corpus = embedded(english, german)
    queries, english = queries[::CAPTIONS], english[::CAPTIONS]  # the first caption of each image
    images = np.arange(len(german)) // CAPTIONS
    with tempfile.TemporaryDirectory() as folder:
        known = {"query_ids": images[::CAPTIONS], "candidate_ids": images, "texts": german}
        started = time.perf_counter()
        found = CorpusMiner(TopK(8), memory="1GiB")(queries, corpus, folder, **known)
        print(
            f"{len(found)} queries, {found.short} with fewer: {time.perf_counter() - started:.0f} s"
        )
        for by in ("excess", "score"):
            report = false_negatives(
                found, 10, 0.0, by, per_query=1, queries=english, corpus=german
            )
            print(
                f"{report.total} queries have one that scores above every positive; the first by {by}:"
            )
            print(*(shown(row) for row in report.table()), sep="\n")
        if options.page:
            report.write_page(options.page)


def shown(row: dict[str, object]) -> str:
    """A likely positive in four lines."""
    texts = (f"    {name:9} {row[f'{name}_text']}" for name in ("query", "candidate", "positive"))
    return "\n".join([f"{row['score']:.3f} against {row['positive_score']:.3f}", *texts])


if __name__ == "__main__":
    main()
