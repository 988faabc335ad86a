"""Do jobs by name in this process, a line of JSON for each row: started by ``supervisor``, not by hand."""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import time
import traceback
from collections.abc import Iterable, Mapping

import torch

from benchmarks.gpu.jobs import Job
from benchmarks.gpu.place import Place

BROKEN = 3
"""Exit status where the device answers no more: what is left needs a new process."""
ALONE_SECONDS = 30.0


def say(**line: object) -> None:
    """One line for the supervisor."""
    print(json.dumps(line, ensure_ascii=False), flush=True)


def usable(place: Place) -> bool:
    """Whether the device still answers: after an illegal access, or a capture that failed, it may not."""
    try:
        place.synchronize()
        if place.device == "cuda":
            torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def work(names: Iterable[str], jobs: Mapping[str, Job], place: Place) -> int:
    """Do the jobs; returns the exit status."""
    for name in names:
        job = jobs[name]
        say(begin=name, seconds=job.seconds)
        # should the supervisor be gone, nobody else would end this process
        faulthandler.dump_traceback_later(
            job.seconds + ALONE_SECONDS, exit=True, file=sys.__stderr__
        )
        started = time.perf_counter()
        silent = True
        try:
            for row in job.run():
                say(row={"job": name, "stage": job.stage, **row})
                silent = False
            place.synchronize()
            if silent:
                raise RuntimeError("the job said nothing, so nothing was checked")
        except Exception as error:
            where = traceback.format_exc().strip().splitlines()[-6:]
            row = {"error": f"{type(error).__name__}: {error}"[:600], "where": where}
            say(row={"job": name, "stage": job.stage, **row})
        faulthandler.cancel_dump_traceback_later()
        say(end=name, took=round(time.perf_counter() - started, 2))
        if not usable(place):
            return BROKEN
    return 0


def main() -> None:
    """Read the names of the jobs from standard input, one a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.worker", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--backend", default="triton")
    given = parser.parse_args()
    from benchmarks.gpu.steps import every_job

    place = Place(given.device, given.small, given.backend)
    names = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    sys.exit(work(names, every_job(place), place))


if __name__ == "__main__":
    main()
