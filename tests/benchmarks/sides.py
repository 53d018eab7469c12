"""Several ways of doing one thing, measured by turns, so that a busy machine is busy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def compare(title: str, sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Do each side ``rounds`` times, by turns, after one round that is not counted; prints and returns the seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, act in sides.items():
            began = time.perf_counter()
            act()
            if number:
                seconds[name].append(time.perf_counter() - began)
    first = statistics.median(next(iter(seconds.values())))
    print(f"\n{title} ({rounds} rounds by turns)")
    print(f"  {'':44}{'median':>12}{'95 %':>12}{'ratio':>8}")
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        late = sorted(taken)[int(len(taken) * 0.95)]
        print(f"  {name:44}{middle * 1000:>9.2f} ms{late * 1000:>9.2f} ms{middle / first:>8.2f}")
    return seconds
