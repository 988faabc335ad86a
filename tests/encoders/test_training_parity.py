"""From the authors' weights and batches, their loss at every step and their weights at the end.

The values were made by the released code (float32, one thread): 80 steps of Adam with the gradient
of the summed loss clipped at norm 2.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from hardneg import ContrastiveLoss
from hardneg.encoders import FeatureEncoder, TextEncoder

GOLDEN = Path(__file__).parents[1] / "golden" / "vsepp_training.npz"
SETTINGS = {
    "vse0": ({"normalize": False}, {}, ("all", "dot", 0.2), 2e-4),
    "vse++": ({}, {}, ("hardest", "dot", 0.2), 2e-4),
    "order0": ({"absolute": True}, {"absolute": True}, ("all", "order", 0.05), 1e-3),
    "order++": ({}, {}, ("hardest", "order", 0.2), 2e-4),
}


class Replay:
    """The authors' run under one setting, step by step, with our encoders and loss."""

    def __init__(self, name: str) -> None:
        image, text, (negatives, similarity, margin), rate = SETTINGS[name]
        with np.load(GOLDEN) as stored:
            self.values = {
                key.removeprefix(f"{name}|"): torch.from_numpy(stored[key])
                for key in stored.files
                if key.startswith(f"{name}|")
            }
        self.image = FeatureEncoder(40, 48, **image)
        self.text = TextEncoder(90, 48, 24, **text)
        self.image.load_state_dict(self.weights("init", "img"))
        self.text.load_state_dict(self.weights("init", "txt"))
        self.parameters = [*self.image.parameters(), *self.text.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, rate, fused=True)
        self.loss = ContrastiveLoss(
            margin=margin, negatives=negatives, similarity=similarity, reduction="sum"
        )

    def weights(self, moment: str, tower: str) -> dict[str, torch.Tensor]:
        """The stored weights of a tower, ``init`` or ``final``."""
        start = f"{moment}|{tower}|"
        return {k.removeprefix(start): v for k, v in self.values.items() if k.startswith(start)}

    def step(self, number: int) -> float:
        """One update; gives the loss before it."""
        batch = [self.values[key][number] for key in ("features", "captions", "lengths")]
        loss = self.loss(self.image(batch[0]), self.text(batch[1], batch[2]))
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 2.0)
        self.optimiser.step()
        return float(loss.detach())


@pytest.mark.parametrize("name", SETTINGS)
def test_every_loss_and_the_final_weights_are_the_authors(name: str) -> None:
    run = Replay(name)
    losses = [run.step(number) for number in range(len(run.values["losses"]))]
    np.testing.assert_allclose(losses, run.values["losses"].numpy(), rtol=1e-4)
    for tower, module in (("img", run.image), ("txt", run.text)):
        for key, expected in run.weights("final", tower).items():
            if (name, key) != ("vse0", "fc.bias"):
                torch.testing.assert_close(
                    module.state_dict()[key], expected, rtol=1e-4, atol=2e-6, msg=f"{name} {key}"
                )


def test_the_bias_left_out_above_has_no_gradient_in_exact_arithmetic() -> None:
    """With every hinge active, the summed loss does not feel a shift of all images.

    So Adam turns the rounding error of VSE0's image bias into steps of either sign, at most one
    learning rate each, in their run as in ours: there is nothing to compare.
    """
    run = Replay("vse0")
    image, text = run.image.double(), run.text.double()
    features, captions, lengths = (
        run.values[key][0] for key in ("features", "captions", "lengths")
    )
    run.loss(image(features.double()), text(captions, lengths)).backward()
    assert image.fc.bias.grad.abs().max() < 1e-9 * image.fc.weight.grad.abs().max()
    moved = (run.weights("final", "img")["fc.bias"] - run.weights("init", "img")["fc.bias"]).abs()
    assert moved.max() <= 2e-4 * len(run.values["losses"])
