"""The command line: train (the default), evaluate, export, features, report, recipes, vocabulary.

What needs torch is imported by the command that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vsepp.arguments import (
    Evaluate,
    Export,
    Features,
    Recipes,
    Report,
    Train,
    Words,
    command_of,
    overview,
    parsed,
)
from vsepp.errors import refusals_told
from vsepp.recipes import RECIPES, UNVERIFIED, recipe_named
from vsepp.release.options import check_names
from vsepp.run.interrupts import Stopped
from vsepp.settings import Data

DEFAULT_RECIPES = {
    "scenes": ("scenes-vse0", "scenes-top8"),
    "coco": ("coco-resnet152-rc-rv-vse++",),
    "flickr30k": ("flickr30k-resnet152-rc-vse++",),
    "flickr8k": ("flickr8k-256-vse0", "flickr8k-256-vse++"),
    "own": ("own",),
}


def main(dataset: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command for a data set."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["-h"], ["--help"]):
        print(overview())
    try:
        with refusals_told():
            RUN[command_of(given)](dataset, given)
    except Stopped as stopped:
        if int(os.environ.get("RANK", 0)) == 0:
            print(stopped, file=sys.stderr)
        raise SystemExit(stopped.status) from None
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; nothing more was written", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def run_train(dataset: str, given: list[str]) -> None:
    """Train every recipe that is asked for, each with the same changes; then table and report."""
    check_names(given)
    names = recipe_names(dataset, given)
    asked = [
        (name, train_arguments(name, names, of_one_seed, dataset))
        for of_one_seed in each_seed(given)
        for name in names
    ]
    from vsepp.run.rank_watch import LostRank, RankWatch

    try:
        with RankWatch():
            folders = train_each(asked)
    except LostRank as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # what waits for the lost process would keep this one from ending
    if folders:
        out = asked[0][1].out
        report_on([*folders, out], out / "report.html")


def train_each(asked: Sequence[tuple[str, Train]]) -> list[Path]:
    """Train one run after the other; their folders, on the first process."""
    from accelerate import PartialState

    from vsepp.run.folder import check_folder
    from vsepp.train import train

    main = PartialState(cpu=asked[0][1].run.cpu).is_main_process
    runs = {
        one.out / f"{name}-seed{one.settings.schedule.seed}": (name, one) for name, one in asked
    }
    if main:
        # a refusal of the second folder is worth more before the first run has trained
        for folder, (_, arguments) in runs.items():
            check_folder(folder, arguments.settings, arguments.run)
    for folder, (name, arguments) in runs.items():
        train(name, arguments.settings, arguments.data, folder, arguments.run)
    return [*runs] if main else []


def report_on(paths: Sequence[Path], page: Path) -> None:
    """A page about finished runs, and their table on the screen."""
    from vsepp.report.finished import read_runs
    from vsepp.report.page import text_table, write_report

    runs, left_out = read_runs(paths)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    write_report(runs, page)
    print(text_table(runs))
    print(f"\nreport: {page}")


def recipe_names(dataset: str, given: list[str]) -> tuple[str, ...]:
    """The recipes on the command line, or the data set's own; COCO without data means scenes."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--recipe", nargs="+", default=())
    reader.add_argument("--data")
    known, _ = reader.parse_known_args(given)
    if known.recipe:
        return tuple(known.recipe)
    return DEFAULT_RECIPES["scenes" if dataset == "coco" and known.data is None else dataset]


def each_seed(given: list[str]) -> list[list[str]]:
    """The command line once for every number behind ``--seed``."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--seed", nargs="+")
    known, others = reader.parse_known_args(given)
    if not known.seed:
        return [given]
    return [[*others, "--seed", seed] for seed in dict.fromkeys(known.seed)]


def train_arguments(
    name: str, names: tuple[str, ...], given: list[str], dataset: str = ""
) -> Train:
    """The command line on top of a recipe's settings; any recipe can be trained on own data."""
    recipe = recipe_named(name)
    settings = recipe.settings
    if dataset == "own":
        settings = replace(
            settings, data=replace(settings.data, dataset="own", restval=False, mirror=False)
        )
    arguments = parsed(Train, "train", given, Train(names, settings=settings))
    if recipe.start_from and arguments.run.start_from is None and not arguments.run.resume:
        raise ValueError(
            f"{name} is a second stage: train {recipe.start_from} first, then pass "
            f"--start-from runs/{recipe.start_from}-seed{arguments.settings.schedule.seed}"
        )
    data, backbone = arguments.settings.data, arguments.settings.model.backbone
    if data.dataset == "own" or ":" in backbone:
        from vsepp.data.noted import noted

        data = noted(data, arguments.data, backbone, given)
    return replace(arguments, settings=replace(arguments.settings, data=data))


def run_evaluate(dataset: str, given: list[str]) -> None:
    """Print the retrieval results of a model."""
    arguments = parsed(Evaluate, "evaluate", given)
    from vsepp.checkpoints import model_file
    from vsepp.evaluate import assess, load_any
    from vsepp.files.writing import require_writable, write_text
    from vsepp.retrieval import from_record, line
    from vsepp.run.folder import data_place

    if arguments.json is not None:
        require_writable(arguments.json)
    trained = load_any(model_file(arguments.checkpoint), arguments.vocabulary)
    data = trained.settings.data
    data = replace(data, skip_corrupt=data.skip_corrupt or arguments.skip_corrupt)
    others = {name: getattr(arguments, name) for name in ("precomp", "images", "features")}
    data = replace(data, **{name: one for name, one in others.items() if one is not None})
    bank = arguments.bank_temperature if arguments.query_bank else None
    root = data_place(arguments.checkpoint, arguments.data)
    found = assess(trained, data, root, arguments.split, arguments.cpu, bank)
    for name, values in found.items():
        print(f"{name}: {line(from_record(values)) if 'rsum' in values else json.dumps(values)}")
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(found, indent=1))


def run_export(dataset: str, given: list[str]) -> None:
    """Write the folder, and say how it is used."""
    arguments = parsed(Export, "export", given)
    from vsepp.checkpoints import model_file
    from vsepp.evaluate import load_any
    from vsepp.export import export_model

    trained = load_any(model_file(arguments.checkpoint), arguments.vocabulary)
    model = export_model(trained, arguments.out)
    sees = "pictures" if model.feature_dim is None else f"features {model.feature_dim} wide"
    print(f"{arguments.out}: {sees}, {len(model.vocabulary):,} words. In Python:")
    print("    from hardneg.image_text import ImageTextModel")
    print(f"    model = ImageTextModel.from_pretrained({str(arguments.out)!r})")


def run_features(dataset: str, given: list[str]) -> None:
    """Compute features and say how many."""
    arguments = parsed(Features, "features", given)
    from vsepp.data.noted import noted
    from vsepp.features import extract

    data = Data(
        arguments.dataset,
        "raw",
        restval=arguments.restval,
        crop=arguments.crop,
        image_size=arguments.image_size,
        skip_corrupt=arguments.skip_corrupt,
    )
    data, network = noted(data, None, arguments.backbone, given), arguments.backbone
    for line in extract(
        data, arguments.data, network, arguments.weights, arguments.out, arguments.cpu
    ):
        print(line)


def run_report(dataset: str, given: list[str]) -> None:
    """Write the page about finished runs."""
    arguments = parsed(Report, "report", given)
    if not arguments.runs:
        raise ValueError("no run is named: pass the folders of finished runs, or one of many runs")
    report_on(arguments.runs, arguments.out)


def run_recipes(dataset: str, given: list[str]) -> None:
    """One recipe a line, its expected numbers under it; those that nobody verified on request."""
    arguments = parsed(Recipes, "recipes", given)
    for recipe in RECIPES.values():
        if arguments.only in recipe.name:
            stage = (
                f"  (second stage, starts from {recipe.start_from})" if recipe.start_from else ""
            )
            print(f"{recipe.name}{stage}")
            for protocol, expected in recipe.expected.items():
                if arguments.all or expected.confidence != UNVERIFIED:
                    print(f"    {protocol}: {expected}")


def run_vocabulary(dataset: str, given: list[str]) -> None:
    """Convert a pickle to JSON."""
    arguments = parsed(Words, "vocabulary", given)
    from vsepp.release.legacy_vocabulary import convert_vocabulary

    vocabulary = convert_vocabulary(arguments.from_pickle, arguments.tokenizer)
    vocabulary.save(arguments.out)
    print(f"{len(vocabulary):,} words in {arguments.out}, tokenizer {vocabulary.tokenizer}")


RUN = {
    "train": run_train,
    "evaluate": run_evaluate,
    "export": run_export,
    "features": run_features,
    "report": run_report,
    "recipes": run_recipes,
    "vocabulary": run_vocabulary,
}
