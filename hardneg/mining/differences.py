"""In which arguments a run in a folder differs from the one that is asked for."""

from __future__ import annotations

from typing import Any

__all__ = ["differences"]

ROWS = {
    "queries": "queries of other rows",
    "corpus": "a corpus of other rows",
    "belonging": "other positives, exclude, query_ids, candidate_ids, texts or same_set",
}
"""What a manifest knows by a hash: it can be said that it differs, and not in what."""
OPTIONS = ("negatives", "similarity")
DERIVED = ("shape", "places", "ceiling")
"""What follows from the others."""


def differences(found: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """What a run was started with, beside what is ``given`` now, by argument; nothing if they agree.

    Of two manifests as plain values. Sizes of blocks may differ.
    """
    ours, theirs = arguments(given), arguments(found)
    told = [what for name, what in ROWS.items() if found.get(name) != given.get(name)]
    told += [
        f"{name}={theirs.get(name)}, now {name}={ours.get(name)}"
        for name in dict.fromkeys([*theirs, *ours])
        if theirs.get(name) != ours.get(name)
    ]
    return told or derived(found, given)


def arguments(manifest: dict[str, Any]) -> dict[str, Any]:
    """The options of a manifest under the names of the miner's arguments."""
    named = {name: manifest.get(name) for name in OPTIONS}
    named["min_score"], named["max_score"] = manifest.get("bounds") or (None, None)
    named["rescore"], named["rescored"] = manifest.get("rescore") or (None, None)
    named["searcher"] = manifest.get("search")
    known = {*OPTIONS, *ROWS, *DERIVED, "block_rows", "bounds", "rescore", "search"}
    return named | {name: value for name, value in manifest.items() if name not in known}


def derived(found: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """What follows from the arguments and differs alone, as of a strategy whose ``repr`` does not tell all."""
    names = [name for name in DERIVED if found.get(name) != given.get(name)]
    return [f"{name}={found.get(name)}, now {name}={given.get(name)}" for name in names]
