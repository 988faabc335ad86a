"""The state of training: model, optimiser, queues and random generators, to disk and back.

Tensors are kept as safetensors and numbers as JSON, so that reading a state from a stranger
runs nothing; accelerate's own ``load_state`` unpickles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vsepp.run.progress import Progress, read_progress
from vsepp.run.random_states import random_states, restore_random_states
from vsepp.run.state_folder import read_manifest, write_state

MODEL, OPTIMISER, QUEUES = "model.safetensors", "optimizer.safetensors", "queues.safetensors"
AVERAGE = "average.safetensors"


@dataclass(frozen=True)
class Parts:
    """What a run changes as it goes. ``queues`` are those of the loss, with what it learns itself;
    None where it remembers and learns nothing. ``average`` is None where no weights are averaged.
    """

    accelerator: Accelerator
    model: nn.Module
    optimiser: AcceleratedOptimizer
    queues: nn.Module | None
    average: nn.Module | None = None


def save_state(parts: Parts, folder: Path, progress: Progress) -> None:
    """Write a new state folder. The first process writes; all of them give their generators."""
    accelerator = parts.accelerator
    generators = gather_object([random_states(accelerator.device)])
    if accelerator.is_main_process:
        progress.processes = accelerator.num_processes
        if accelerator.scaler is not None:
            progress.loss_scale = accelerator.scaler.state_dict()
        files = {generators_file(rank): one for rank, one in enumerate(generators)}
        files[MODEL], files[OPTIMISER] = parts.model.state_dict(), flattened(parts.optimiser)
        for name, module in ((QUEUES, parts.queues), (AVERAGE, parts.average)):
            if module is not None:
                files[name] = module.state_dict()
        write_state(folder, {name: as_bytes(one) for name, one in files.items()}, progress)
    accelerator.wait_for_everyone()


def load_state(parts: Parts, state: Path) -> Progress:
    """Put a state, whose checksums have been compared, into the parts; returns its progress."""
    accelerator = parts.accelerator
    progress = read_progress(state)
    if progress.processes != accelerator.num_processes:
        raise ValueError(
            f"{state} is of a run in {progress.processes} processes, and this is one in "
            f"{accelerator.num_processes}: resume with as many as it began with"
        )
    steps: dict[str, Any] = {
        MODEL: parts.model.load_state_dict,
        OPTIMISER: lambda found: parts.optimiser.load_state_dict(nested(found, parts.optimiser)),
    }
    for name, module in ((QUEUES, parts.queues), (AVERAGE, parts.average)):
        if module is not None:
            steps[name] = module.load_state_dict
    steps[generators_file(accelerator.process_index)] = lambda found: restore_random_states(
        found, accelerator.device
    )
    for name, put in steps.items():
        put_in(state, name, put)
    if accelerator.scaler is not None and progress.loss_scale:
        accelerator.scaler.load_state_dict(progress.loss_scale)
    return progress


def put_in(state: Path, name: str, put: Any) -> None:
    """Read one file of a state and hand it on; a file that does not fit is told by name."""
    path = state / name
    if name not in read_manifest(state):
        raise FileNotFoundError(f"{path} is missing, and the manifest does not list it")
    try:
        put(load_file(path))
    except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} does not fit this run: {said}") from error


def generators_file(rank: int) -> str:
    """The file of a process's random generators."""
    return f"random_states_{rank}.safetensors"


def as_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors in the safetensors format."""
    return save({name: one.detach().cpu().contiguous() for name, one in tensors.items()})


def flattened(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors that an optimiser keeps for its parameters, as ``<parameter>.<name>``."""
    return {
        f"{number}.{name}": value
        for number, kept in optimiser.state_dict()["state"].items()
        for name, value in kept.items()
    }


def nested(flat: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Back from ``flattened``: a state that ``load_state_dict`` takes. Learning rates and the like
    are settings of the run, not part of its state.
    """
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    kept: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, value in flat.items():
        number, _, name = key.partition(".")
        expected = parameters[int(number)].shape if int(number) < len(parameters) else None
        if value.dim() and value.shape != expected:
            raise ValueError(f"{key} is {tuple(value.shape)}, its parameter {expected}")
        kept[int(number)][name] = value
    return {"state": dict(kept), "param_groups": optimiser.state_dict()["param_groups"]}
