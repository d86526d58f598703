"""Memory of a process and all below it."""

from pathlib import Path

from bench.cpu import tree


def resident(pid: int) -> int:
    """Bytes in main memory; what several processes share is counted once (`Pss`)."""
    total = 0
    for one in tree(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue  # it has just ended
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024
