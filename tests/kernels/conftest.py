"""Kernels are either interpreted or compiled in a process, so each kind of test is collected only in its own."""

from __future__ import annotations

import os

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore = ["ahead_of_time", "test_in_interpreter.py"] if INTERPRETED else ["interpreted"]
