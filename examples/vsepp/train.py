"""The training run, from top to bottom: data, model, loss, epochs, and what is kept.

Everything that is not about VSE++ (devices, mixed precision, several processes, the state of the
optimiser and of the random generators) is left to accelerate.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from tqdm import tqdm

from vsepp.batches import ShuffledBatches, training_loader
from vsepp.checkpoints import (
    Progress,
    Trained,
    load_model,
    load_progress,
    load_weights,
    model_file,
    newest_state,
    save_model,
    save_state,
)
from vsepp.data import Batch, Pairs, read_splits, vocabulary_of
from vsepp.evaluate import embed, protocols
from vsepp.files import write_text
from vsepp.gallery import write_gallery
from vsepp.gradients import Gradients
from vsepp.images import feature_width
from vsepp.memory import peak_memory_mib
from vsepp.model import build_model, check_image_size
from vsepp.objective import negatives_by_step
from vsepp.picture_check import check_pictures
from vsepp.retrieval import line, record, retrieve
from vsepp.run_folder import begin_folder, check_folder
from vsepp.settings import Options, Settings
from vsepp.splits import Splits
from vsepp.watch import Losses, Seen

DECAY = 0.1
LOOK_EVERY = 20


class Trainer:
    """One run in one folder. ``run()`` is the whole story."""

    def __init__(
        self, recipe: str, settings: Settings, splits: Splits, folder: Path, options: Options
    ) -> None:
        self.recipe, self.settings, self.splits = recipe, settings, splits
        self.folder, self.options = folder, options
        self.accelerator = Accelerator(
            mixed_precision=settings.schedule.precision,
            log_with="tensorboard" if options.tensorboard else None,
            project_dir=str(folder),
            cpu=options.cpu,
        )
        if self.accelerator.is_main_process:
            check_folder(folder, settings, options)
        self.accelerator.wait_for_everyone()
        set_seed(settings.schedule.seed)
        start = options.start_from
        first_stage = None if start is None else load_model(model_file(start))
        self.vocabulary = vocabulary_of(settings.data, splits, first_stage)
        self.progress = Progress()
        self.build(first_stage)

    def build(self, first_stage: Trained | None) -> None:
        """The model, its optimiser and its data, placed where they will run."""
        settings = self.settings
        width = feature_width(self.splits.train.images)
        model = build_model(settings.model, len(self.vocabulary), width)
        check_image_size(model.image, settings.data.image_size)
        if first_stage is not None:
            load_weights(model, first_stage, own_cnn=True)
        trained = [one for one in model.parameters() if one.requires_grad]
        optimiser = torch.optim.Adam(trained, settings.schedule.learning_rate, fused=True)
        self.model, self.optimiser = self.accelerator.prepare(model, optimiser)
        self.plain = self.accelerator.unwrap_model(self.model)
        schedule, rank = settings.schedule, self.accelerator.process_index
        pairs = Pairs(self.splits.train, self.vocabulary, schedule.seed)
        part = (rank, self.accelerator.num_processes)
        self.batches = ShuffledBatches(pairs, schedule.batch_size, schedule.seed, *part)
        self.loader = training_loader(self.batches, self.options.workers, self.accelerator)
        self.negatives = negatives_by_step(settings.loss, len(self.loader))
        self.losses = Losses(settings.loss, len(self.loader))
        self.gradients = Gradients(self.accelerator, self.model, settings)
        if rank:
            # Each process hides words of its own; the weights are the first one's in all.
            torch.manual_seed(schedule.seed + rank)

    def run(self) -> dict[str, Any]:
        """Train to the end, then read the test split once with the best model."""
        self.introduce()
        if self.accelerator.is_main_process:
            begin_folder(self.folder, self.settings, self.options)
        self.accelerator.wait_for_everyone()
        self.resume()
        if self.options.tensorboard:
            self.accelerator.init_trackers("tensorboard")
        while self.progress.epoch < self.settings.schedule.epochs:
            self.epoch()
        result = self.result()
        if self.accelerator.is_main_process:
            write_text(self.folder / "result.json", json.dumps(result, indent=1))
        self.accelerator.end_training()
        return result

    def introduce(self) -> None:
        """What is about to be trained on what."""
        for name in ("train", "dev", "test"):
            self.say(f"{name}: {getattr(self.splits, name)}")
        words = self.vocabulary
        self.say(f"{len(words):,} words, split by {words.tokenizer}, from {words.made_from}")
        parameters = sum(one.numel() for one in self.plain.parameters())
        self.say(f"{parameters:,} parameters on {self.accelerator.device}")

    def resume(self) -> None:
        """Take up the newest state, if that is asked for and there is one."""
        state = newest_state(self.folder) if self.options.resume else None
        if state is not None:
            self.progress = load_progress(state)
            self.losses.watch.streak = self.progress.collapse_streak
            self.accelerator.load_state(str(state))
            self.say(f"resuming at epoch {self.progress.epoch}, step {self.progress.step}")

    def epoch(self) -> None:
        """One pass over the captions, or the rest of one."""
        progress, schedule = self.progress, self.settings.schedule
        self.rate = schedule.learning_rate * DECAY ** (progress.epoch // schedule.decay_after)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        self.batches.start(progress.epoch, progress.done)
        self.plain.start_epoch()
        if any(row["epoch"] == progress.epoch for row in progress.history):
            self.plain.after_validation()
        self.clock = time.perf_counter()
        for batch in self.bar():
            self.step(batch)
            progress.done, progress.step = progress.done + 1, progress.step + 1
            if progress.step % LOOK_EVERY == 0:
                self.look()
            if progress.done < len(self.loader):
                self.within_epoch()
        self.validate()
        progress.epoch, progress.done = progress.epoch + 1, 0
        progress.loss_total, progress.seconds = 0.0, 0.0
        self.save()

    def within_epoch(self) -> None:
        """What is due between two steps: a validation, a checkpoint."""
        every, step = self.settings.schedule.validate_every, self.progress.step
        if every and step % every == 0:
            self.validate()
            self.plain.after_validation()
            self.save()
        elif step % self.options.checkpoint_every == 0:
            self.look()
            self.save()

    def step(self, batch: Batch) -> None:
        """Forward, loss, backward, clip, update."""
        pairs, skipped = self.gradients.of_all(len(batch.lengths), batch.skipped)
        self.progress.skipped += skipped
        if pairs == 0:
            return
        queued = self.gradients.objective.queued
        loss = self.gradients(batch, self.negatives(self.progress.step))
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.schedule.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        seen = pairs if self.settings.loss.across_ranks else len(batch.lengths)
        self.losses.waiting.append(Seen(self.progress.step, loss, seen, queued))

    def look(self) -> None:
        """Read the losses since the last look, and stop the clock of training meanwhile."""
        progress, waiting = self.progress, self.losses.waiting
        if waiting:
            self.accelerator.log({"loss": float(waiting[-1].loss)}, step=progress.step)
        for advice in self.losses.read(progress):
            self.say(advice)
        progress.seconds += time.perf_counter() - self.clock
        self.clock = time.perf_counter()

    def validate(self) -> None:
        """Measure the dev split, note it, and keep the model if it is the best so far."""
        self.look()
        progress, measure = self.progress, self.settings.loss.measure
        embedded = embed(self.plain, self.splits.dev, self.vocabulary)
        found = retrieve(embedded.images, embedded.captions, embedded.image_of, measure)
        row = {
            "epoch": progress.epoch,
            "step": progress.step,
            "loss": progress.loss_total / progress.done,
            "learning_rate": self.rate,
            "seconds": progress.seconds,
            **record(found),
        }
        progress.history.append(row)
        self.accelerator.log({"dev/rsum": found.rsum, "epoch loss": row["loss"]}, progress.step)
        left_out = f", {progress.skipped:,} pairs left out so far" if progress.skipped else ""
        trained = f"loss {row['loss']:.2f}, {row['seconds']:.1f} s{left_out}"
        self.say(f"epoch {progress.epoch}: {trained}, dev {line(found)}")
        if found.rsum > progress.best_rsum:
            progress.best_rsum, progress.best_epoch = found.rsum, progress.epoch
            progress.best_file = f"best-{progress.step:09d}.pt"
            if self.accelerator.is_main_process:
                path = self.folder / progress.best_file
                save_model(path, self.settings, self.vocabulary, self.plain, row)
        self.clock = time.perf_counter()

    def save(self) -> None:
        """A checkpoint; the time that it takes is not training time."""
        save_state(self.accelerator, self.folder, self.progress)
        self.clock = time.perf_counter()

    def result(self) -> dict[str, Any]:
        """The test split, read once with the best model, and how the run went."""
        progress = self.progress
        seconds = {row["epoch"]: row["seconds"] for row in progress.history}
        load_weights(self.plain, load_model(self.folder / progress.best_file))
        embedded = embed(self.plain, self.splits.test, self.vocabulary)
        found = protocols(embedded, self.settings.loss.measure, self.settings.data.dataset)
        for protocol, retrieval in found.items():
            self.say(f"{protocol}: {line(retrieval)}")
        if self.accelerator.is_main_process:
            write_gallery(self.folder, embedded, self.splits.test, self.settings.loss.measure)
        return {
            "recipe": self.recipe,
            "settings": self.settings.record(),
            "results": {protocol: record(one) for protocol, one in found.items()},
            "best_epoch": progress.best_epoch,
            "dev_rsum": progress.best_rsum,
            "best_file": progress.best_file,
            "history": progress.history,
            "seconds_per_epoch": median(seconds.values()),
            "peak_memory_mib": peak_memory_mib(),
            "collapse_steps": progress.collapse_steps,
            "skipped_pairs": progress.skipped,
            "skipped_test_images": embedded.skipped,
            "tokenizer": self.vocabulary.tokenizer,
            "vocabulary_size": len(self.vocabulary),
            "torch": torch.__version__,
            "device": str(self.accelerator.device),
        }

    def bar(self) -> tqdm:
        """The batches of this epoch, with a progress bar for the person who waits."""
        return tqdm(
            self.loader,
            desc=f"epoch {self.progress.epoch}",
            initial=self.progress.done,
            total=len(self.loader),
            disable=self.options.quiet or not self.accelerator.is_main_process,
            leave=False,
        )

    def say(self, message: str) -> None:
        """A line on the main process, clear of the progress bar."""
        if self.accelerator.is_main_process:
            tqdm.write(f"[{self.folder.name}] {message}", file=sys.stderr)


def train(
    recipe: str, settings: Settings, root: Path | None, folder: Path, options: Options
) -> dict[str, Any]:
    """Read the data and train."""
    splits = check_pictures(read_splits(settings.data, root), options.quiet)
    return Trainer(recipe, settings, splits, folder, options).run()
