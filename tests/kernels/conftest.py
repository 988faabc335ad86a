"""Kernels are either interpreted or compiled in a process; ``interpreted/`` has a process of its own."""

from __future__ import annotations

import importlib.util
import os

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WITHOUT_TRITON = importlib.util.find_spec("triton") is None
collect_ignore = ["ahead_of_time"] if INTERPRETED else ["interpreted"] if WITHOUT_TRITON else []
