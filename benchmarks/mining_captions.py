"""Mining real captions: ``python -m benchmarks.mining_captions FOLDER`` with the files of Multi30k's second task.

English captions look for German ones of other images: hashed character n-grams, TF-IDF and a truncated SVD of each
language, canonical correlation of the captions of one image between them. Prints how many candidates score above every
positive of their query, and the worst of them; ``--page`` writes them as a page.
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

from hardneg import Ceiling, TopK
from hardneg.mining import CorpusMiner, false_negatives

CAPTIONS, FEATURES, KEPT, WIDTH = 5, 1 << 15, 200, 64


def captions(folder: Path, language: str, images: int) -> list[str]:
    """Five captions of each image, one image after the other."""
    files = [folder / f"train.{i}.{language}.gz" for i in range(1, CAPTIONS + 1)]
    columns = [gzip.decompress(path.read_bytes()).decode().splitlines() for path in files]
    return [column[image] for image in range(min(images, len(columns[0]))) for column in columns]


def features(texts: list[str]) -> np.ndarray:
    """Centred and white."""
    grams = {"analyzer": "char_wb", "ngram_range": (3, 4), "n_features": FEATURES}
    hashed = HashingVectorizer(**grams, alternate_sign=False, norm=None)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(hashed.transform(texts))
    x = TruncatedSVD(KEPT, random_state=0).fit_transform(weighted)
    x -= x.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    return x @ (vectors / np.sqrt(values))


def embedded(english: list[str], german: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Both languages in the space where captions of one image correlate."""
    x, y = features(english), features(german)
    middle = [one.reshape(-1, CAPTIONS, KEPT).mean(1) for one in (x, y)]
    left, strength, right = np.linalg.svd(middle[0].T @ middle[1] / len(middle[0]))
    weights = np.sqrt(strength[:WIDTH])
    sides = (x @ left[:, :WIDTH] * weights, y @ right[:WIDTH].T * weights)
    return sides[0].astype(np.float32), sides[1].astype(np.float32)


def main() -> None:
    """Embed, mine, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=29_000)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    english, german = (captions(options.folder, name, options.images) for name in ("en", "de"))
    queries, corpus = embedded(english, german)
    ids = np.arange(len(english)) // CAPTIONS
    with tempfile.TemporaryDirectory() as folder:
        for negatives in (TopK(8), TopK(8, Ceiling(0.95))):
            started = time.perf_counter()
            miner = CorpusMiner(negatives, memory="1GiB")
            place = Path(folder) / str(negatives)
            known = {"query_ids": ids, "candidate_ids": ids, "texts": german}
            found = miner(queries, corpus, place, **known)
            seconds = time.perf_counter() - started
            print(f"{found}, {found.short} with fewer: {seconds:.0f} s", flush=True)
            if negatives.ceiling is None:
                report = false_negatives(found, 10, 0.0, queries=english, corpus=german)
                print(f"{report.total} candidates score above every positive of their query")
        for row in report.table():
            print(f"{row['score']:.3f} against {row['positive_score']:.3f}")
            print(
                *(
                    f"    {name:9} {row[f'{name}_text']}"
                    for name in ("query", "candidate", "positive")
                ),
                sep="\n",
            )
        if options.page:
            report.write_page(options.page)


if __name__ == "__main__":
    main()
