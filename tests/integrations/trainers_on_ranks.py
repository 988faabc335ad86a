"""Trains by another library's trainer, on as many ranks as torchrun starts: ``trainers_on_ranks.py WHICH FOLDER``.

Two epochs of eight rows in batches of four, whatever the number of ranks; rank 0 saves the weights and losses.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from pair_models import batch, clip
from sentences import COLUMNS

from hardneg import InfoNCELoss, Learned

BATCH = 4


def arguments(kind: Any, out: Path) -> Any:
    """The same of both trainers."""
    return kind(
        str(out), num_train_epochs=2, learning_rate=0.1, optim="sgd", use_cpu=True, seed=0, logging_steps=1,
        per_device_train_batch_size=BATCH // int(os.environ.get("WORLD_SIZE", 1)),
        report_to="none", save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip


def of_transformers(folder: Path) -> Any:
    from transformers import TrainingArguments

    from hardneg.integrations.transformers import ContrastiveTrainer

    inputs = {name: x.float() if x.is_floating_point() else x for name, x in batch(8).items()}
    rows = [{name: x[i] for name, x in inputs.items()} | {"image_id": i // 2} for i in range(8)]
    return ContrastiveTrainer(
        clip().float(),
        arguments(TrainingArguments, folder / "out"),
        loss=InfoNCELoss(negatives="hardest"),
        ids="image_id",
        train_dataset=rows,
    )


def of_sentence_transformers(folder: Path) -> Any:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments

    from hardneg.integrations.sentence_transformers import HardNegLoss

    torch.manual_seed(0)
    model = SentenceTransformer(str(folder / "model"), device="cpu")
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    rows = [[*column, *column[:2]] for column in COLUMNS]
    names = ["anchor", "positive", "negative_1", "negative_2"]
    loss = InfoNCELoss(Learned(0.05), directions="queries")
    return SentenceTransformerTrainer(
        model,
        arguments(Arguments, folder / "out"),
        loss=HardNegLoss(model, loss, gather_across_devices=True),
        train_dataset=Dataset.from_dict(dict(zip(names, rows, strict=True))),
    )


TRAINERS = {"transformers": of_transformers, "sentence_transformers": of_sentence_transformers}


def main(which: str, folder: Path) -> None:
    """Train, and save what came of it."""
    trainer = TRAINERS[which](folder)
    trainer.train()
    if trainer.is_world_process_zero():
        parameters = dict(trainer.model.named_parameters())
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        world = os.environ.get("WORLD_SIZE", "1")
        torch.save((parameters, torch.tensor(losses)), folder / f"ranks-{world}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
