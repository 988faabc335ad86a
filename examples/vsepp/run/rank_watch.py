"""Notice within a second that another process of the run is gone, and end with it.

Every process keeps a connection to the first one, which the system closes when a process dies,
``kill -9`` included. Without this, a process that waits for a lost one in a collective, or for the
rendezvous, may wait for half an hour.
"""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from types import TracebackType

import torch.distributed as dist

GRACE = 3.0
"""Seconds in which a process may still end by itself, with an error of its own."""
ARRIVAL, LATE_ARRIVAL = 30.0, 600.0
"""Seconds by which one process may begin later than another: on one machine; on several, or under
torchrun, which itself ends the processes that wait for a lost one.
"""
LEAVES, LOST = b"B", b"L"
MESSAGE = 5


class LostRank(RuntimeError):
    """Another process of the run is gone."""


class RankWatch:
    """Watches over the processes that torchrun, or a launcher that sets the same variables,
    started; in a run of one process it does nothing.
    """

    def __init__(self) -> None:
        self.rank, self.ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.connected: dict[socket.socket, int] = {}
        self.lost: int | None = None
        self.told, self.ended = threading.Event(), threading.Event()
        self.parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    def __enter__(self) -> RankWatch:
        if self.ranks > 1 and "MASTER_ADDR" in os.environ:
            self.connect(Meeting(self.rank, self.ranks))
            threading.Thread(target=self.watch, daemon=True).start()
            # A forked worker would keep the connections open when this process is killed.
            os.register_at_fork(after_in_child=self.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError) and self.connected:
            self.told.wait(GRACE)  # a broken collective may speak before the watch does
        self.ended.set()
        if kind is None:
            for connection in list(self.connected):
                with suppress(OSError):
                    connection.sendall(LEAVES.ljust(MESSAGE, b"\0"))
        if isinstance(error, RuntimeError) and self.lost is not None:
            raise LostRank(self.message()) from error

    def connect(self, meeting: Meeting) -> None:
        """Connect with the first process; the first one, with all others."""
        if self.rank == 0:
            for connection, rank in meeting.host():
                self.connected[connection] = rank
        else:
            self.connected[meeting.join()] = 0

    def watch(self) -> None:
        """Wait for the end of a connection, in a thread beside the training."""
        with selectors.DefaultSelector() as selector:
            for connection in self.connected:
                selector.register(connection, selectors.EVENT_READ)
            while self.lost is None and not self.ended.is_set():
                for key, _ in selector.select(timeout=1.0):
                    if not self.hear(key.fileobj):
                        selector.unregister(key.fileobj)
                self.look_for_parent()
        if self.lost is not None:
            self.end()
        self.close()

    def hear(self, connection: socket.socket) -> bool:
        """Take in a message or the end of a connection; False when there is nothing more to hear."""
        rank = self.connected[connection]
        try:
            said = connection.recv(MESSAGE, socket.MSG_WAITALL)
        except OSError:
            said = b""
        if said[:1] == LEAVES:
            return False
        self.lost = int.from_bytes(said[1:]) if said[:1] == LOST else rank
        return False

    def end(self) -> None:
        """Tell the others who is lost, and end this process if it does not end by itself."""
        assert self.lost is not None
        for connection in self.connected:
            with suppress(OSError):
                connection.sendall(LOST + self.lost.to_bytes(MESSAGE - 1))
        self.told.set()
        if not self.ended.wait(GRACE):
            print(f"error: {self.message()}", file=sys.stderr, flush=True)
            os._exit(1)

    def look_for_parent(self) -> None:
        """A torchrun that was killed cannot end its processes: they stop as if it had told them."""
        if self.parent is not None and os.getppid() != self.parent:
            self.parent = None
            os.kill(os.getpid(), signal.SIGTERM)

    def message(self) -> str:
        """Who is lost, and how to go on."""
        return (
            f"rank {self.lost} of {self.ranks} is lost (killed, or ended by an error of its own), so "
            f"rank {self.rank} stops: the same command with --resume goes on from the newest checkpoint"
        )

    def close(self) -> None:
        """Close this process's ends of the connections."""
        for connection in self.connected:
            with suppress(OSError):
                connection.close()


class Meeting:
    """How the processes find each other: the first one's address, left in the store that
    ``MASTER_ADDR`` and ``MASTER_PORT`` name, with a word that only this run knows.
    """

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks
        one_machine = os.environ.get("LOCAL_WORLD_SIZE", str(ranks)) == str(ranks)
        soon = one_machine and "TORCHELASTIC_RUN_ID" not in os.environ
        self.until = time.monotonic() + (ARRIVAL if soon else LATE_ARRIVAL)
        of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        self.prefix = f"hardneg/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/"
        place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        keeps_store = rank == 0 and not of_torchrun
        if not keeps_store:
            self.wait_for(place)
        # torch's own rendezvous finds this store when it comes to the same address
        left, shared = (
            timedelta(seconds=self.left()),
            {"wait_for_workers": False, "multi_tenant": True},
        )
        try:
            self.store = dist.TCPStore(*place, ranks, keeps_store, left, **shared)
        except RuntimeError as error:
            raise LostRank(self.absent(0)) from error

    def wait_for(self, place: tuple[str, int]) -> None:
        """Wait until the store answers. Its own client waits longer than it is told to."""
        while True:
            try:
                socket.create_connection(place, timeout=self.left()).close()
                return
            except OSError as error:
                if time.monotonic() > self.until:
                    raise LostRank(self.absent(0)) from error
                time.sleep(0.2)

    def left(self) -> float:
        """Seconds that are left to arrive in."""
        return max(0.1, self.until - time.monotonic())

    def absent(self, *ranks: int) -> str:
        """Who has not arrived."""
        who = ", ".join(map(str, ranks))
        return f"rank {who} of {self.ranks} has not arrived, so rank {self.rank} stops: it was killed or never started"

    def host(self) -> list[tuple[socket.socket, int]]:
        """Wait for a connection of every other process."""
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        word, found = secrets.token_hex(16), {}
        with socket.create_server(("", 0), family=family, dualstack_ipv6=both) as server:
            names = [os.environ["MASTER_ADDR"], socket.gethostname(), "localhost"]
            self.store.set(
                self.prefix + "meet", "\n".join([word, str(server.getsockname()[1]), *names])
            )
            while len(found) < self.ranks - 1:
                server.settimeout(self.left())
                try:
                    connection, _ = server.accept()
                except TimeoutError as error:
                    missing = [rank for rank in range(1, self.ranks) if rank not in found]
                    raise LostRank(self.absent(*missing)) from error
                rank = greeted(connection, word)
                if rank is not None:
                    found[rank] = connection
        return [(connection, rank) for rank, connection in found.items()]

    def join(self) -> socket.socket:
        """Connect with the first process, under whichever of its names answers."""
        self.store.set_timeout(timedelta(seconds=self.left()))
        try:
            word, port, *names = self.store.get(self.prefix + "meet").decode().split("\n")
        except RuntimeError as error:
            raise LostRank(self.absent(0)) from error
        for name in dict.fromkeys(names):
            with suppress(OSError):
                connection = socket.create_connection((name, int(port)), timeout=10.0)
                connection.sendall(word.encode() + self.rank.to_bytes(4))
                if connection.recv(len(word), socket.MSG_WAITALL) == word[::-1].encode():
                    connection.settimeout(None)
                    return connection
        raise LostRank(f"rank {self.rank} cannot connect with rank 0 under {', '.join(names)}")


def greeted(connection: socket.socket, word: str) -> int | None:
    """The rank that a new connection brings; None for a stranger's."""
    connection.settimeout(10.0)
    with suppress(OSError):
        said = connection.recv(len(word) + 4, socket.MSG_WAITALL)
        if said[: len(word)] == word.encode() and len(said) == len(word) + 4:
            connection.sendall(word[::-1].encode())
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return int.from_bytes(said[len(word) :])
    connection.close()
    return None
