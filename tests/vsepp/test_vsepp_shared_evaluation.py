"""Two processes that share the embedding of a split have the embeddings of one, to the last bit."""

import subprocess
import sys
from pathlib import Path

import torch

from test_vsepp_ranks import TORCHRUN
from test_vsepp_resume import environment
from tiny_data import write_flickr

# 12 images in batches of 5: two batches on one process, one on the other
PROGRAM = """
import sys
from pathlib import Path
import torch
from accelerate import Accelerator
import vsepp.evaluate
from vsepp.data.pairs import read_splits
from vsepp.evaluate import embed
from vsepp.run.measuring import Measuring
from vsepp.model import build_model
from vsepp.settings import Data, Model, Settings
from vsepp.data.vocabulary import build_vocabulary

vsepp.evaluate.BATCH = 5
accelerator = Accelerator(cpu=True)
data = Data("flickr8k", "raw", image_size=32, threshold=1, skip_corrupt=True, tokenizer="regex")
settings = Settings(data, Model("small", "none", embed_dim=8, word_dim=6))
dev = read_splits(data, Path(sys.argv[1])).dev
words = build_vocabulary(dev.captions, "regex", 1, "a test")
torch.manual_seed(0)
model = build_model(settings.model, len(words), None)
alone, shared = embed(model, dev, words), embed(model, dev, words, accelerator)
measuring = Measuring(accelerator, model, words, settings)
numbers = measuring.retrieval(measuring.embedded(dev))
found = (vars(alone), vars(shared), numbers.rsum)
torch.save(found, f"{sys.argv[2]}{accelerator.process_index}")
"""


def test_shared_embeddings_are_those_of_one_process(tmp_path: Path) -> None:
    """An image that cannot be read is left out with its captions, wherever its batch is."""
    root = write_flickr(tmp_path / "data")
    (root / "f8k" / "images" / "0046.jpg").write_bytes(b"no picture")
    (tmp_path / "program.py").write_text(PROGRAM)
    given = [str(tmp_path / "program.py"), str(root), str(tmp_path / "found")]
    done = subprocess.run(
        [sys.executable, *TORCHRUN, *given],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rsums = []
    for rank in range(2):
        alone, shared, rsum = torch.load(tmp_path / f"found{rank}", weights_only=False)
        assert torch.equal(alone["images"], shared["images"])
        assert torch.equal(alone["captions"], shared["captions"])
        assert torch.equal(alone["image_of"], shared["image_of"])
        assert shared["images_kept"].tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
        assert alone["captions_kept"].tolist() == shared["captions_kept"].tolist()
        assert (alone["skipped"], shared["skipped"], len(shared["captions"])) == (1, 1, 55)
        rsums.append(rsum)
    assert rsums[0] == rsums[1] > 0
