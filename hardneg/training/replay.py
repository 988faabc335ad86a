"""What a second forward pass needs to repeat the first: random generators, buffers and autocast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Autocast", "Buffers", "RandomState"]


@dataclass(frozen=True, eq=False)
class RandomState:
    """The states of torch's generators, of the CPU and of accelerators in use."""

    cpu: Tensor
    accelerators: tuple[tuple[torch.device, Tensor], ...]

    @classmethod
    def now(cls, devices: Iterable[torch.device]) -> RandomState:
        """The present states; ``devices`` are those whose generators the pass may use."""
        others = {device for device in devices if device.type not in ("cpu", "meta")}
        return cls(
            torch.get_rng_state(),
            tuple((one, torch.get_device_module(one).get_rng_state(one)) for one in others),
        )

    @contextmanager
    def replay(self) -> Iterator[None]:
        """These states within the block, the present ones again after it."""
        after = RandomState.now(device for device, _ in self.accelerators)
        self.take_up()
        try:
            yield
        finally:
            after.take_up()

    def take_up(self) -> None:
        """Go on from these states."""
        torch.set_rng_state(self.cpu)
        for device, state in self.accelerators:
            torch.get_device_module(device).set_rng_state(state, device)


class Buffers:
    """The buffers of some modules as they were: running statistics, power iterations and the like."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.before = [
            (module, name, buffer, buffer.clone())
            for module in unique(modules)
            for name, buffer in module.named_buffers(recurse=False)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Put them back, all of them: batch norm's kernels do not say that they write to theirs."""
        for module, name, buffer, content in self.before:
            buffer.copy_(content)
            setattr(module, name, buffer)


def unique(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Every module and its submodules, each once."""
    return list(dict.fromkeys(part for module in modules for part in module.modules()))


@dataclass(frozen=True)
class Autocast:
    """Whether and how operations were cast automatically, on some kinds of devices."""

    states: tuple[tuple[str, bool, torch.dtype], ...]
    cached: bool

    @classmethod
    def now(cls, kinds: Iterable[str]) -> Autocast:
        """The present state."""
        found = [
            (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
            for kind in sorted(kinds)
        ]
        return cls(tuple(found), torch.is_autocast_cache_enabled())

    def entered(self) -> ExitStack:
        """This state again, as a forward pass needs it."""
        stack = ExitStack()
        for kind, enabled, dtype in self.states:
            if enabled or torch.is_autocast_enabled(kind):
                again = torch.autocast(kind, dtype, enabled, self.cached)
                stack.enter_context(again)
        return stack

    def left(self) -> ExitStack:
        """No automatic casts, as back-propagation needs it."""
        stack = ExitStack()
        for kind, _, _ in self.states:
            stack.enter_context(torch.autocast(kind, enabled=False))
        return stack
