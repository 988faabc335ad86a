"""The process group of a module: its copies share it, pickles leave it out."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist

__all__ = ["GroupReference"]

DEFAULT = "the default group"


@dataclass(frozen=True, eq=False)
class GroupReference:
    """A process group as an attribute of something that is copied and saved.

    A process group can be neither copied nor pickled. Copies refer to the same one. A pickle leaves
    it out, as that of ``DistributedDataParallel`` does: the default group is found again when it is
    needed, any other has to be assigned.

    Attributes:
        group: the group; None for no group, and after unpickling.
        name: what it was when the module was made; empty for no group.
    """

    group: dist.ProcessGroup | None = None
    name: str = ""

    @classmethod
    def to(cls, group: dist.ProcessGroup | None) -> GroupReference:
        """A reference to this group; its name is found while the group exists."""
        if group is None:
            return cls()
        if group is dist.group.WORLD:
            return cls(group, DEFAULT)
        inside = isinstance(group, dist.ProcessGroup)  # a process outside a new group gets a number
        ranks = dist.get_process_group_ranks(group) if inside else "others"
        return cls(group, f"the group of ranks {ranks}")

    def resolve(self) -> dist.ProcessGroup | None:
        """The group.

        Raises:
            RuntimeError: after unpickling, where it cannot be found.
        """
        if self.group is not None or not self.name:
            return self.group
        if self.name == DEFAULT and dist.is_initialized():
            return dist.group.WORLD
        raise RuntimeError(
            f"a pickle leaves process groups out, and this module had {self.name}: "
            + ("call torch.distributed.init_process_group first" if self.name == DEFAULT else "")
            + ("" if self.name == DEFAULT else "assign its attribute `group`")
            + ", or assign None to its attribute `group` to use it without other ranks"
        )

    def __deepcopy__(self, memo: object) -> GroupReference:
        """The same group."""
        return self

    def __reduce__(self) -> tuple[type[GroupReference], tuple[None, str]]:
        """Its name alone."""
        return GroupReference, (None, self.name)
