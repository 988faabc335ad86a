"""The command line: open the models, embed the split or read the cache, then show or write."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from vsepp.errors import InputError, refusals_told
from vsepp_search.arguments import Search


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page, or write the file."""
    try:
        with refusals_told():
            run(tyro.cli(Search, prog="search.py", args=arguments))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


def run(asked: Search) -> None:
    """What is asked for; whatever can be refused at once is, before anything is embedded."""
    most = 2 if asked.atlas is None else 1
    if not 1 <= len(asked.runs) <= most:
        which = "one run with --atlas" if most == 1 else "one run, or two to see side by side"
        raise InputError(f"{len(asked.runs)} runs are named: expected {which}")
    if asked.atlas is None:
        from vsepp_search.page import serve

        serve(asked)
    else:
        from vsepp_search.atlas import check_place, write_atlas
        from vsepp_search.opened import indexes

        check_place(asked.atlas)
        write_atlas(indexes(asked)[0], asked.atlas, asked.neighbors)
