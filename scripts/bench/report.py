"""Medians, ratios, tables."""

import json
import statistics
import time

# Name, what is measured, what it is compared with (verb and tool each), the bound, and whether
# the bound is one of speeds (at least so many times as fast) or of times (at most that part).
OURS, PEER = "rollforward", "pgbackrest"
AIMS = (
    ("backup, part of the limit program", ("backup", OURS), ("backup", "limit"), 0.90, "at least"),
    ("backup, times pgBackRest", ("backup", OURS), ("backup", PEER), 2.2, "at least"),
    ("restore, part of what the disk takes",
     ("restore", OURS), ("restore", "disk-limit"), 0.90, "at least"),
    ("restore, times pgBackRest", ("restore", OURS), ("restore", PEER), 1.5, "at least"),
    ("wal push, time against pgBackRest", ("push", OURS), ("push", PEER), 0.5, "at most"),
    ("wal get prefetched, time against pgBackRest's get",
     ("get_prefetched", OURS), ("get", PEER), 0.1, "at most"),
)
MEMORY_MAX_BYTES = 150_000_000

VERBS = (
    ("backup", "full backup", "MB/s"),
    ("restore", "restore, durable, from disk", "MB/s"),
    ("push", "`wal push`, per segment", "ms"),
    ("get", "`wal get`, per segment, not prefetched", "ms"),
    ("get_prefetched", "`wal get`, per segment, prefetched", "ms"),
    ("get_stream", "`wal get`, per segment, one after the other", "ms"),
)


class Results:
    """All samples, by tool and verb, a list with one entry per round."""

    def __init__(self):
        self.facts = {}
        self.samples = {}

    def add(self, tool, verb, sample, **more):
        """Adds the sample of one long command."""
        entry = sample.__dict__ | more
        self.samples.setdefault(tool, {}).setdefault(verb, []).append(entry)

    def add_calls(self, tool, verb, samples):
        """Adds the samples of many short commands as one entry: their mean, and how they spread."""
        times = [sample.seconds for sample in samples]
        cuts = statistics.quantiles(times, n=20)
        entry = {
            "seconds": statistics.fmean(times),
            "median_seconds": statistics.median(times),
            "p95_seconds": cuts[18],
            "user_seconds": statistics.fmean(sample.user_seconds for sample in samples),
            "system_seconds": statistics.fmean(sample.system_seconds for sample in samples),
            "memory_bytes": max(sample.memory_bytes for sample in samples),
            "calls": len(times),
        }
        self.samples.setdefault(tool, {}).setdefault(verb, []).append(entry)

    def median(self, tool, verb, field="seconds"):
        """The median over the rounds, or None when it was not measured."""
        entries = self.samples.get(tool, {}).get(verb, [])
        return statistics.median(entry[field] for entry in entries) if entries else None

    def store(self, folder):
        """Writes everything as JSON, under the present time and as `latest.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        content = self.facts | {"samples": self.samples, "aims": aims(self)}
        document = json.dumps(content, indent=1) + "\n"
        path = folder / time.strftime("%Y%m%dT%H%M%SZ.json", time.gmtime())
        path.write_text(document)
        (folder / "latest.json").write_text(document)
        (folder / "latest.md").write_text(text(self))
        return path


def aims(results):
    """Each aim with what was reached; what was not measured is left out."""
    rows = []
    for name, (verb, tool), (other_verb, other), bound, kind in AIMS:
        mine, theirs = results.median(tool, verb), results.median(other, other_verb)
        if mine is None or theirs is None:
            continue
        seen = theirs / mine if kind == "at least" else mine / theirs
        rows.append(_aim(name, bound, kind, seen, f"{bound:g}", f"{seen:.2f}"))
    entries = results.samples.get("rollforward", {}).get("backup", [])
    if entries:
        seen = max(entry["memory_bytes"] for entry in entries)
        name, bound = "peak memory of a backup, MB", MEMORY_MAX_BYTES
        rows.append(_aim(name, bound, "at most", seen, f"{bound / 1e6:.0f}", f"{seen / 1e6:.0f}"))
    return rows


def _aim(name, bound, kind, seen, bound_text, seen_text):
    reached = seen >= bound if kind == "at least" else seen <= bound
    return {"aim": name, "bound": f"{kind} {bound_text}", "seen": seen_text, "reached": reached}


def text(results):
    """The tables as Markdown, which is readable on a terminal as well."""
    parts = [_speeds(results), _costs(results), _spread(results), _aims_table(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rate(results, verb, seconds):
    if seconds is None:
        return None
    if verb in ("backup", "restore"):
        return results.facts["data_bytes"] / 1e6 / seconds
    return seconds * 1e3


def _speeds(results):
    tools = list(results.samples)
    lines = [["median of rounds", "unit", *tools, "ratio to pgbackrest"]]
    for verb, name, unit in VERBS:
        times = [results.median(tool, verb) for tool in tools]
        if not any(times):
            continue
        shown = [_number(_rate(results, verb, seconds)) for seconds in times]
        mine, theirs = results.median("rollforward", verb), results.median("pgbackrest", verb)
        # Always "so many times as fast".
        ratio = f"{theirs / mine:.2f} x as fast" if mine and theirs else "–"
        lines.append([name, unit, *shown, ratio])
    return _table(lines)


def _costs(results):
    lines = [["cost", *results.samples]]

    def row(name, verb, field, scale):
        values = [results.median(tool, verb, field) if _has(results, tool, verb, field) else None
                  for tool in results.samples]
        if any(values):
            lines.append([name, *[_number(value and value / scale) for value in values]])

    row("backup: seconds", "backup", "seconds", 1)
    row("backup: user seconds", "backup", "user_seconds", 1)
    row("backup: system seconds", "backup", "system_seconds", 1)
    row("backup: peak memory, all processes, MB", "backup", "memory_bytes", 1e6)
    row("backup: stored, MB", "backup", "stored_bytes", 1e6)
    row("restore: seconds", "restore", "seconds", 1)
    row("restore: user seconds", "restore", "user_seconds", 1)
    row("restore: system seconds", "restore", "system_seconds", 1)
    row("restore: peak memory, all processes, MB", "restore", "memory_bytes", 1e6)
    row("push: user ms", "push", "user_seconds", 1e-3)
    row("push: system ms", "push", "system_seconds", 1e-3)
    row("get: user ms", "get", "user_seconds", 1e-3)
    row("get: system ms", "get", "system_seconds", 1e-3)
    row("get, prefetched: user ms", "get_prefetched", "user_seconds", 1e-3)
    row("get, prefetched: system ms", "get_prefetched", "system_seconds", 1e-3)
    row("push: median ms of one call", "push", "median_seconds", 1e-3)
    row("push: 95th percentile, ms", "push", "p95_seconds", 1e-3)
    row("get, prefetched: median ms of one call", "get_prefetched", "median_seconds", 1e-3)
    row("get, prefetched: 95th percentile, ms", "get_prefetched", "p95_seconds", 1e-3)
    return _table(lines) if len(lines) > 1 else ""


def _has(results, tool, verb, field):
    entries = results.samples.get(tool, {}).get(verb, [])
    return bool(entries) and field in entries[0]


def _spread(results):
    lines = [["each round", "unit", *results.samples]]
    for verb, name, unit in VERBS:
        cells = []
        for tool in results.samples:
            entries = results.samples[tool].get(verb, [])
            rates = [_number(_rate(results, verb, entry["seconds"])) for entry in entries]
            cells.append(" / ".join(rates) or "–")
        if any(cell != "–" for cell in cells):
            lines.append([name, unit, *cells])
    return _table(lines)


def _aims_table(results):
    rows = aims(results)
    lines = [["aim", "bound", "seen", "reached"]]
    for row in rows:
        lines.append([row["aim"], row["bound"], row["seen"], "yes" if row["reached"] else "no"])
    return _table(lines) if rows else ""


def _number(value):
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(lines):
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)
