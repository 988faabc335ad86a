"""The program itself, started as a person does: a process of its own, stopped by Ctrl-C."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SECONDS = 120


@contextmanager
def served(*given: object) -> Iterator[str]:
    """The address of the page of ``search.py`` with these arguments."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("gradio is not installed (pip install '.[search]')")
    command = [sys.executable, "examples/search.py", *map(str, given), "--cpu", "--port", "0"]
    places = {"PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**os.environ, **places},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    too_long = threading.Timer(SECONDS, process.kill)
    too_long.start()
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.fullmatch(
                r"the page is at (http://127\.0\.0\.1:\d+/) \(Ctrl-C .*\n", line
            ):
                break
        else:
            raise AssertionError("".join(said))
        too_long.cancel()
        yield found[1]
    finally:
        too_long.cancel()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, rest
    told = "".join([*said, rest])
    assert told.count("http") == 1, told
    assert "public link" not in told


def asked(address: str, name: str, *values: object) -> str:
    """The answer of one of the page's functions, by gradio's API."""
    call = f"{address}gradio_api/call/{name}"
    given = urllib.request.Request(
        call, json.dumps({"data": values}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(given) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}") as answer:
        return answer.read().decode()
