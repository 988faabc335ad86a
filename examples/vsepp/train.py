"""The training run, from top to bottom: data, model, loss, epochs, and what is kept.

Everything that is not about VSE++ (devices, mixed precision, several processes, the state of the
optimiser and of the random generators) is left to accelerate.
"""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import is_tensorboard_available, set_seed
from torch import nn

from vsepp.checkpoints import Trained, load_model, load_weights, model_file, save_model
from vsepp.data.batches import ShuffledBatches, training_loader
from vsepp.data.images import feature_width
from vsepp.data.pairs import Batch, Pairs, read_splits, vocabulary_of
from vsepp.data.picture_check import check_pictures
from vsepp.data.splits import Splits
from vsepp.data.vocabulary import text_network_named
from vsepp.data.workers import decoding_workers
from vsepp.files.writing import write_text
from vsepp.gradients import Gradients, teacher_at
from vsepp.model import build_model, check_image_size, know_training_set, make_fast
from vsepp.objective import build_objective, negatives_by_step
from vsepp.optimisation import averaged, build_optimiser, set_learning_rate
from vsepp.report.gallery import write_gallery
from vsepp.report.mined_gallery import SHOWN_EPOCHS, mined_gallery
from vsepp.retrieval import line, record
from vsepp.run.beginning import begin_or_go_on
from vsepp.run.folder import check_folder, forget_replaced, run_in
from vsepp.run.interrupts import Interrupts, Stopped
from vsepp.run.measuring import Measuring
from vsepp.run.own_negatives import own_negatives_of
from vsepp.run.progress import Progress
from vsepp.run.refusals import check_run
from vsepp.run.result import result_record
from vsepp.run.screen import Screen
from vsepp.run.training_state import Parts, save_state
from vsepp.run.watch import Losses, Seen
from vsepp.settings import Options, Settings

LOOK_EVERY = 20


class Trainer:
    """One run in one folder. ``run()`` is the whole story."""

    def __init__(
        self,
        recipe: str,
        settings: Settings,
        splits: Splits,
        folder: Path,
        options: Options,
        root: Path | None = None,
    ) -> None:
        self.recipe, self.settings, self.splits, self.root = recipe, settings, splits, root
        self.folder, self.options, self.progress = folder, options, Progress()
        self.logged = options.tensorboard and is_tensorboard_available()
        self.accelerator = Accelerator(
            mixed_precision=settings.schedule.precision,
            log_with="tensorboard" if self.logged else None,
            project_dir=str(folder),
            cpu=options.cpu,
        )
        self.screen = Screen(folder.name, self.accelerator.is_main_process, options.quiet)
        self.interrupts, self.changed = Interrupts(), list[str]()
        if self.accelerator.is_main_process:
            self.changed = check_folder(folder, settings, options)
        self.accelerator.wait_for_everyone()
        set_seed(settings.schedule.seed)
        first_stage = options.start_from and load_model(model_file(options.start_from))
        words = (first_stage and first_stage.vocabulary) or text_network_named(settings.model)
        self.vocabulary = vocabulary_of(settings.data, splits, words)
        self.build(first_stage)

    def build(self, first_stage: Trained | None) -> None:
        """The model, its optimiser and its data, placed where they will run."""
        settings = self.settings
        width = feature_width(self.splits.train.images)
        model = build_model(settings.model, len(self.vocabulary), width, self.vocabulary, True)
        check_image_size(model.image, settings.data.image_size)
        if first_stage is not None:
            load_weights(model, first_stage, own_cnn=True)
        else:
            know_training_set(model, settings, self.splits.train, self.vocabulary)
        schedule, rank = settings.schedule, self.accelerator.process_index
        ranks, device = self.accelerator.num_processes, self.accelerator.device
        objective = build_objective(settings.loss, settings.model.embed_dim, ranks).to(device)
        optimiser = build_optimiser([model, objective], schedule)
        self.model, self.optimiser = self.accelerator.prepare(model, optimiser)
        self.plain = self.accelerator.unwrap_model(self.model)
        self.average = averaged(self.plain, schedule)
        make_fast(self.plain.image, device, self.options.compile)
        self.judged = self.plain if self.average is None else self.average.module
        pairs = Pairs(self.splits.train, self.vocabulary, schedule.seed)
        self.batches = ShuffledBatches(pairs, schedule, rank, ranks)
        workers = decoding_workers(self.options.workers, settings.data, width is not None)
        self.loader = training_loader(self.batches, workers, self.accelerator)
        self.negatives = negatives_by_step(settings.loss, len(self.loader))
        self.losses = Losses(settings.loss, len(self.loader))
        members = settings.model.members
        given = (self.accelerator, self.model, objective, schedule.chunk, members)
        self.gradients = Gradients(*given)
        queues = objective if settings.loss.queue or settings.loss.learn_temperature else None
        self.own = own_negatives_of(pairs, settings.loss)
        if self.own is not None:
            queues = nn.ModuleList([objective, self.own])
        self.parts = Parts(self.accelerator, self.plain, self.optimiser, queues, self.average)
        self.measuring = Measuring(self.accelerator, self.judged, self.vocabulary, settings)
        if rank:
            # Each process hides words of its own; the weights are the first one's in all.
            torch.manual_seed(schedule.seed + rank)

    def run(self) -> dict[str, Any]:
        """Train to the end, then read the test split once with the best model."""
        parameters = sum(one.numel() for one in self.plain.parameters())
        where = f"{parameters:,} parameters on {self.accelerator.device}"
        self.screen.introduce(self.splits, self.vocabulary, where)
        place = (self.folder, self.settings, self.options)
        self.progress = begin_or_go_on(self.parts, *place, self.changed, self.screen, self.root)
        self.losses.watch.streak = self.progress.collapse_streak
        if self.logged:
            self.accelerator.init_trackers("tensorboard")
        with self.interrupts:
            while self.progress.epoch < self.settings.schedule.epochs:
                self.epoch()
        result = self.result()
        if self.accelerator.is_main_process:
            write_text(self.folder / "result.json", json.dumps(result, indent=1))
        self.accelerator.end_training()
        return result

    def epoch(self) -> None:
        """One pass over the captions, or the rest of one."""
        progress = self.progress
        if self.own is not None and progress.epoch and not progress.done:
            self.own.mine(self.measuring.embedded(self.splits.train))
        self.batches.start(progress.epoch, progress.done)
        self.plain.start_epoch()
        if any(row["epoch"] == progress.epoch + 1 for row in progress.history):
            self.plain.after_validation()
        self.clock = time.perf_counter()
        place = (progress.epoch + 1, progress.done, len(self.loader))
        for batch in self.screen.bar(self.loader, *place):
            self.step(batch)
            progress.done, progress.step = progress.done + 1, progress.step + 1
            if progress.step % LOOK_EVERY == 0:
                self.look()
            if progress.done < len(self.loader):
                self.within_epoch()
        self.validate()
        progress.epoch, progress.done = progress.epoch + 1, 0
        progress.loss_total, progress.seconds, progress.skipped_in_epoch = 0.0, 0.0, 0
        self.save()
        self.interrupts.agree(self.gradients.of_all(*self.interrupts.counts()))
        self.stop()

    def within_epoch(self) -> None:
        """What is due between two steps: a validation, a checkpoint."""
        every, step = self.settings.schedule.validate_every, self.progress.step
        if every and step % every == 0:
            self.validate()
            self.plain.after_validation()
            self.save()
        elif step % self.options.checkpoint_every == 0 or self.interrupts.agreed:
            self.look()
            self.save()
        self.stop()

    def stop(self) -> None:
        """End a run that was asked to stop; its checkpoint is written."""
        if self.interrupts.agreed:
            raise Stopped(self.folder.name, self.interrupts.agreed, self.progress)

    def step(self, batch: Batch) -> None:
        """Forward, loss, backward, clip, update."""
        mine = (len(batch.image_ids), batch.skipped, *self.interrupts.counts())
        pairs, skipped, *signals = self.gradients.of_all(*mine)
        self.interrupts.agree(signals)
        self.progress.skipped += skipped
        self.progress.skipped_in_epoch += skipped
        if pairs == 0:
            return
        step, per_epoch = self.progress.step, len(self.loader)
        set_learning_rate(self.optimiser, self.settings.schedule, step, per_epoch)
        queued = self.gradients.objective.queued
        teacher = teacher_at(step, per_epoch, self.settings.loss, self.judged)
        loss = self.gradients(batch, self.negatives(step), teacher)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.schedule.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.plain)
        seen = pairs if self.settings.loss.across_ranks else len(batch.image_ids)
        self.losses.waiting.append(Seen(self.progress.step, loss, seen, queued))

    def look(self) -> None:
        """Read the losses since the last look, and stop the clock of training meanwhile."""
        progress, waiting = self.progress, self.losses.waiting
        if waiting:
            self.accelerator.log({"loss": float(waiting[-1].loss)}, step=progress.step)
        for advice in self.losses.read(progress):
            self.screen.say(advice)
        progress.seconds += time.perf_counter() - self.clock
        self.clock = time.perf_counter()

    def validate(self) -> None:
        """Measure the dev split, note it, and keep the model if it is the best so far."""
        self.look()
        progress = self.progress
        if progress.skipped_in_epoch == len(self.batches.pairs):
            raise ValueError(f"{self.splits.train.where}: not one training image could be read")
        embedded = self.measuring.embedded(self.splits.dev)
        found = self.measuring.retrieval(embedded)
        shown = (*SHOWN_EPOCHS, self.settings.schedule.epochs)
        row = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "loss": progress.loss_total / progress.done,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "seconds": progress.seconds,
            **record(found),
            **self.measuring.mining(embedded, keep=progress.epoch + 1 in shown),
        }
        progress.history.append(row)
        self.accelerator.log({"dev/rsum": found.rsum, "epoch loss": row["loss"]}, progress.step)
        self.screen.say(f"{progress.told(row)}, dev {line(found)}")
        if found.rsum > progress.best_rsum:
            self.keep(row)
        self.clock = time.perf_counter()

    def keep(self, row: dict[str, Any]) -> None:
        """The best model so far: note it and write it."""
        progress = self.progress
        progress.best_rsum, progress.best_epoch = row["rsum"], row["epoch"]
        progress.best_file = f"best-{progress.step:09d}.pt"
        if self.accelerator.is_main_process:
            given = (self.settings, self.vocabulary, self.judged, row)
            progress.best_sha256 = save_model(self.folder / progress.best_file, *given)

    def save(self) -> None:
        """A checkpoint; the time that it takes is not training time."""
        save_state(self.parts, self.folder, self.progress)
        if self.accelerator.is_main_process:
            forget_replaced(self.folder)
        self.clock = time.perf_counter()

    def result(self) -> dict[str, Any]:
        """The test split, read once with the best model, and how the run went."""
        load_weights(self.judged, load_model(self.folder / self.progress.best_file))
        embedded = self.measuring.embedded(self.splits.test)
        found = self.measuring.protocols(embedded)
        for protocol, retrieval in found.items():
            self.screen.say(f"{protocol}: {line(retrieval)}")
        if self.accelerator.is_main_process:
            mined = mined_gallery(self.progress.history, self.splits.dev)
            measure = self.settings.loss.measure
            write_gallery(self.folder, embedded, self.splits.test, measure, mined)
        went = result_record(found, embedded, self.progress, self.vocabulary, self.splits)
        device = str(self.accelerator.device)
        return {"recipe": self.recipe, "settings": self.settings.record(), **went, "device": device}


def train(
    recipe: str, settings: Settings, root: Path | None, folder: Path, options: Options
) -> dict[str, Any]:
    """Read the data and train, alone in the folder. Of several processes the first holds it."""
    main = PartialState(cpu=options.cpu).is_main_process
    with run_in(folder) if main else nullcontext():
        splits = read_splits(settings.data, root)
        check_run(splits, settings, options)
        splits = check_pictures(splits, options.quiet)
        return Trainer(recipe, settings, splits, folder, options, root).run()
