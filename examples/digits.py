"""Train an embedding of handwritten digits with several strategies and print recall before and after.

``python examples/digits.py`` needs scikit-learn (its 1,797 bundled 8 x 8 digits) and takes about ten seconds.
The first half of the samples trains the network; the other half is the test: each test
digit retrieves among the other test digits.
"""

from __future__ import annotations

import argparse
import time

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hardneg import NTXentLoss, SupConLoss, TripletLoss
from hardneg.metrics import ranks, recall_at_k

LOSSES = {
    "triplet, all negatives": lambda: TripletLoss(margin=0.2, negatives="all"),
    "triplet, semi-hard": lambda: TripletLoss(margin=0.2, negatives="semihard"),
    "triplet, batch-hard": lambda: TripletLoss(
        margin=0.2, positives="hardest", negatives="hardest"
    ),
    "NT-Xent": lambda: NTXentLoss(temperature=0.1),
    "SupCon": lambda: SupConLoss(temperature=0.1),
}


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels; images are 64 values in [0, 1]."""
    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32) / 16
    labels = torch.tensor(data.target)
    half = len(labels) // 2
    return images[:half], labels[:half], images[half:], labels[half:]


def network(seed: int) -> nn.Module:
    """64 values to an embedding of 32."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))


@torch.no_grad()
def recall_at_1(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of digits whose nearest other digit is of the same class."""
    embeddings = model(images)
    found = ranks(embeddings, embeddings, labels, labels, same_set=True)
    return float(recall_at_k(found, 1))


def train(loss: nn.Module, model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> None:
    """Adam on random batches of 128."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        batch = torch.randint(len(images), (128,))
        optimiser.zero_grad()
        loss(model(images[batch]), labels[batch]).backward()
        optimiser.step()


def main() -> None:
    """Train once for each loss and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="training steps (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    options = parser.parse_args()
    images, labels, test_images, test_labels = digits()
    print(f"{'loss':<24} {'recall@1 before':>16} {'after':>8} {'seconds':>8}")
    for name, make in LOSSES.items():
        model = network(options.seed)
        before = recall_at_1(model, test_images, test_labels)
        start = time.perf_counter()
        train(make(), model, images, labels, options.steps)
        seconds = time.perf_counter() - start
        after = recall_at_1(model, test_images, test_labels)
        print(f"{name:<24} {before:>16.3f} {after:>8.3f} {seconds:>8.1f}")


if __name__ == "__main__":
    main()
