"""A row as a line of text."""

from __future__ import annotations

from typing import Any

from benchmarks.core import verdict

Row = dict[str, Any]


def failed(row: Row) -> bool:
    """Whether a row tells of something broken (a missed target is not)."""
    return ("error" in row and "passed" not in row) or row.get("passed") is False


def skipped(row: Row) -> bool:
    """Whether there was no time for its job."""
    return "not_run" in row


def ended(row: Row) -> bool:
    """Whether it only says how long a job took."""
    return "took" in row


def line(row: Row) -> str:
    """A row as text; empty for a check that passed and for what the summary counts."""
    if skipped(row) or ended(row):
        return ""
    if "passed" in row:
        return "" if row["passed"] else of_check(row)
    if "error" in row:
        return f"ERROR {row['job']}: {row['error']}"
    for key, text in TEXTS.items():
        if key in row:
            return text(row)
    return ""


def of_check(row: Row) -> str:
    """A check that failed."""
    found = f"error {row['error']:.3g}, allowed {row['allowed']:.3g}"
    return f"FAILED {row['job']} | {row['what']}: {found} (plain PyTorch {row['eager_error']:.3g})"


def of_ceiling(row: Row) -> str:
    """A rate of the device."""
    return f"  {row['ceiling']}: {row['value']:.4g} {row['unit']}"


def of_case(row: Row) -> str:
    """A contender of a case, and ours in the same rounds."""
    name = f"{row['case']}: {row['contender']}"
    if "median_ms" not in row:
        text = f"  {name}: {row['note']}"
    else:
        spread = f"{row['median_ms']:.3f} ms ({row['min_ms']:.3f} to {row['max_ms']:.3f})"
        peak = f", {row['peak_mib']:.1f} MiB" if "peak_mib" in row else ""
        beside = ""
        if "hardneg_ratio" in row:
            beside = f"; hardneg beside it {row['hardneg_ms']:.3f} ms, {row['hardneg_ratio']:.3g} x"
        text = f"  {name}: {spread}{peak}{beside}"
    return "\n".join([text, *map(verdict, row.get("targets", ()))])


def of_configuration(row: Row) -> str:
    """One that was tried."""
    tile = "-".join(str(x) for x in row["configuration"].values())
    time = f"{row['median_ms']:.3f} ms" if "median_ms" in row else row["note"]
    return f"  {row['kernel']}, d = {row['width']}, {tile}: {time}"


def of_winner(row: Row) -> str:
    """A line for the table."""
    about = f"{row['median_ms']:.3f} ms, the table's {row['table_ms']:.3f}"
    word = "change" if row["changed"] else "keep"
    wrong = f"; WRONG RESULTS: {row['wrong']}" if row["wrong"] else ""
    return f"  {word} {row['line']}  # d = {row['width']}: {about}{wrong}"


def of_profile(row: Row) -> str:
    """A kernel as the profiler saw it."""
    share = f", {100 * row['share']:.0f} %" if "share" in row else ""
    known = ("registers per thread", "shared memory", "est. achieved occupancy %")
    more = "".join(f", {key} {row[key]}" for key in known if key in row)
    return f"  {row['profile']}: {row['what']}: {row['count']} x, {row['us']:.1f} us{share}{more}"


def of_counters(row: Row) -> str:
    """Hardware counters of a kernel."""
    if "note" in row:
        return f"  {row['counters']}: {row['note']}"
    return f"  {row['counters']}: " + "; ".join(f"{k} {v}" for k, v in row["values"].items())


TEXTS = {
    "ceiling": of_ceiling,
    "winner": of_winner,
    "kernel": of_configuration,
    "profile": of_profile,
    "counters": of_counters,
    "case": of_case,
}
