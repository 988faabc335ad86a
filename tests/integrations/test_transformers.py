"""The Trainer of transformers with losses on pairs, on CLIP and SigLIP models of one layer made here."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from pair_models import batch, clip, siglip
from torch import Tensor, nn
from torch.utils.data import SequentialSampler

from hardneg import ContrastiveLoss, InfoNCELoss, Learned, SigmoidLoss, TopK

# imported by the tests themselves, since it takes long
pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None,
    reason="the adapter is for those who have it: hardneg[transformers]",
)


def trainer_with(*arguments: Any, **options: Any) -> Any:
    from hardneg.integrations.transformers import ContrastiveTrainer

    return ContrastiveTrainer(*arguments, **options)


def loss_of_outputs(*arguments: Any) -> Tensor:
    from hardneg.integrations import transformers

    return transformers.loss_of_outputs(*arguments)


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


PAIRS = [(clip, InfoNCELoss()), (siglip, SigmoidLoss())]


def own_step(make: Any) -> list[Tensor]:
    """The loss that the model computes itself, and its gradients."""
    model = make()
    value = model(**batch(), return_loss=True)["loss"]
    value.backward()
    return [value.detach(), *gradients(model)]


@pytest.mark.parametrize(("make", "loss"), PAIRS, ids=["CLIP", "SigLIP"])
def test_equals_the_models_own_loss(make: Any, loss: Any) -> None:
    try:
        expected = own_step(make)
    except RuntimeError as error:  # of 4.48
        pytest.skip(f"this release of transformers makes no mask in float64: {error}")
    assert len(expected) > 20
    model = make()
    value = loss_of_outputs(loss, model(**batch()), model)
    value.backward()
    torch.testing.assert_close([value.detach(), *gradients(model)], expected, rtol=1e-6, atol=1e-9)


def test_ids_and_other_losses() -> None:
    model, ids = siglip(), torch.arange(8) // 2
    outputs = model(**batch())
    images, texts = outputs.image_embeds, outputs.text_embeds
    for loss in (InfoNCELoss(negatives=TopK(2)), ContrastiveLoss()):
        scaled = isinstance(loss, InfoNCELoss)
        own = InfoNCELoss(1 / model.logit_scale.exp(), TopK(2)) if scaled else loss
        expected = own(images, texts, query_ids=ids, candidate_ids=ids)
        found = loss_of_outputs(loss, outputs, model, ids)
        torch.testing.assert_close(found, expected)
        model.zero_grad()
        found.backward(retain_graph=True)
        # DistributedDataParallel waits for a gradient of every parameter
        assert all(p.grad is not None for p in (model.logit_scale, model.logit_bias))
        assert (float(model.logit_scale.grad) != 0) == scaled
        assert float(model.logit_bias.grad) == 0


def rows(data: dict[str, Tensor]) -> list[dict[str, Any]]:
    ids = torch.arange(8) // 2
    return [{**{n: x[i].float() if x.is_floating_point() else x[i] for n, x in data.items()},
             "image_id": ids[i], "path": "unused"} for i in range(8)]  # fmt: skip


def trainer_of(out: Path, loss: Any, **options: Any) -> Any:
    from transformers import TrainingArguments

    arguments = TrainingArguments(
        str(out), use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, seed=0,
        per_device_train_batch_size=4, num_train_epochs=1, learning_rate=0.01, logging_steps=1,
        dataloader_pin_memory=False, **options,
    )  # fmt: skip
    data = rows(batch())
    return trainer_with(
        clip().float(),
        arguments,
        loss=loss,
        ids="image_id",
        train_dataset=data,
        eval_dataset=data,
    )


def test_the_trainer_trains_and_evaluates(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, InfoNCELoss(negatives="hardest"))
    before = trainer.model.logit_scale.item()
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2
    assert all(x > 0 for x in logged)
    assert trainer.model.logit_scale.item() != before
    found, data = trainer.evaluate()["eval_loss"], batch()
    ids = torch.arange(8) // 2
    with torch.no_grad():
        outputs = trainer.model(data["input_ids"], data["pixel_values"].float())
        loss = InfoNCELoss(negatives="hardest")
        expected = loss_of_outputs(loss, outputs, trainer.model, ids)
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_accumulation_averages(tmp_path: Path) -> None:
    loss = ContrastiveLoss(negatives="all")
    trainer = trainer_of(tmp_path, loss, gradient_accumulation_steps=2)
    trainer._get_train_sampler = lambda *_: SequentialSampler(range(8))  # type: ignore[method-assign]
    trainer.train()
    (logged,) = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    model, ids = clip().float(), torch.arange(4) // 2
    with torch.no_grad():
        halves = zip(*(x.split(4) for x in batch().values()), strict=True)
        found = [loss_of_outputs(loss, model(w, p.float()), model, ids) for w, p in halves]
    assert logged == pytest.approx(float(found[0] + found[1]) / 2, rel=1e-4)


def test_parameters_of_the_loss_are_trained(tmp_path: Path) -> None:
    class Module(nn.Module):
        """Embeddings, and no scale of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = clip().float()
            del self.inner.logit_scale
            self.inner.logit_scale = 1.0

        def forward(self, input_ids: Tensor, pixel_values: Tensor) -> dict[str, Tensor]:
            texts = self.inner.get_text_features(input_ids=input_ids)
            images = self.inner.get_image_features(pixel_values=pixel_values)
            both = (getattr(x, "pooler_output", x) for x in (images, texts))
            return dict(zip(("image_embeds", "text_embeds"), both, strict=True))

    trainer = trainer_of(tmp_path, InfoNCELoss())
    trained = trainer_with(
        Module(),
        trainer.args,
        loss=InfoNCELoss(Learned(0.07)),
        train_dataset=trainer.train_dataset,
    )
    trained.train()
    assert trained.contrastive_loss.temperature().item() != pytest.approx(0.07, rel=1e-3)


def test_what_it_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="beside the model's logit_scale"):
        trainer_of(tmp_path, InfoNCELoss(Learned(0.07)))
    with pytest.raises(TypeError, match="loss"):
        trainer_of(tmp_path, nn.CrossEntropyLoss())


def test_the_message_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "hardneg.integrations.transformers", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'hardneg\[transformers\]'"):
        import hardneg.integrations.transformers  # noqa: F401
