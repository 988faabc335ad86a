"""What a row says about where it was measured."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import hardneg

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PEERS = (
    "pytorch-metric-learning",
    "open_clip_torch",
    "faiss-cpu",
    "inf-cl",
    "memeff",
    "siglip-kernel",
)


def processor() -> str:
    """The CPU's model name."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def commit() -> str:
    """The commit, with ``+`` where the library's own files have changed since; empty without git."""
    head = git("rev-parse", "--short", "HEAD")
    return head + "+" if head and git("status", "--porcelain", "hardneg") else head


def installed(package: str) -> str:
    """Its version; empty where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def peer_versions() -> dict[str, str]:
    return {name: found for name in PEERS if (found := installed(name))}


def setting(threads: int) -> dict[str, object]:
    """Date, versions, machine and commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": threads,
        "cpu": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "hardneg": hardneg.__version__,
        "peers": peer_versions(),
        "commit": commit(),
    }


def free_gib() -> float:
    """Memory that can be had without swapping; infinite where the system does not say."""
    listing = Path("/proc/meminfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) / 2**20
    return float("inf")
