"""Computes the number of replicas by the published formula of Azure's inference router.

utilization = (replicas busy processing a request + requests queued) / current replicas; above the target replicas are
created at once, below it they are removed slowly, "around 20 times" slower.
Source: https://learn.microsoft.com/azure/machine-learning/how-to-kubernetes-inference-routing-azureml-fe.

Ours, because not documented: demand is the mean of SAMPLES looks per polling interval; a rise by three replicas or more
happens at once, a smaller one when the mean of the last polls asks for it; going down follows the mean of the calm. Without
this, chance alone drives a steady load to the maximum: one busy poll adds a replica, and few calms last twenty polls.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from runbook.errors import PlatformError

# One look per interval would see a busy moment or an idle one and swing between most and least.
SAMPLES = 50
# (replicas more, polls whose mean must ask for as many): one replica more can wait until it is not chance.
RISES = ((3, 1), (2, 5), (1, 10))


@dataclass
class Scaler:
    """The memory of one deployment's scaling: the demands of the last polls, and those of the current calm."""

    least: int
    most: int
    target: float
    calm_polls: int
    recent: tuple[float, ...] = ()
    calm: tuple[float, ...] = ()

    def desired(self, demand: float) -> int:
        """Return the replicas that bring ``demand`` (busy replicas + queued requests) to ``target`` percent."""
        return max(self.least, min(self.most, self._needed(demand)))

    def decide(self, samples: Sequence[float], current: int) -> int:
        """Return how many replicas there should be after one polling interval with these samples."""
        if not samples:
            return current
        demand = _mean(samples)
        self.recent = (*self.recent, demand)[-max(polls for _, polls in RISES) :]
        number = self._risen(current)
        if number is None:
            number = self._fallen(demand, current)
        if number is None:
            return current
        self.recent, self.calm = (), ()
        return number

    def _risen(self, current: int) -> int | None:
        for more, polls_meant in RISES:
            last = self.recent[-polls_meant:]
            if len(last) == polls_meant and self._needed(_mean(last)) >= current + more:
                return self.desired(_mean(last))
        return None

    def _fallen(self, demand: float, current: int) -> int | None:
        desired = self.desired(demand)
        if desired >= current and not self.calm:
            return None
        self.calm = (*self.calm, demand)
        enough = self.desired(_mean(self.calm))
        # A poll that asks for one replica more than the calm needs may be chance. One that asks for two ends the calm.
        if desired > enough + 1:
            self.calm = ()
        if len(self.calm) < self.calm_polls:
            return None
        return min(enough, current)

    def _needed(self, demand: float) -> int:
        # The tiny subtraction keeps 1.5 / 0.5 at 3 when the mean of the samples carries a rounding error.
        return math.ceil(demand / (self.target / 100) - 1e-9)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


async def polls(look: Callable[[], Awaitable[float]], interval_s: float) -> AsyncIterator[list[float]]:
    """Yield the demands seen in each polling interval, for ever; an interval in which no look succeeds yields none.

    The looks are jittered: at even distances they would see an evenly spaced load always busy, or never.
    """
    loop, jitter = asyncio.get_running_loop(), random.SystemRandom()
    begin = loop.time()
    while True:
        samples = []
        for number in range(SAMPLES):
            due = begin + (number + jitter.random()) * interval_s / SAMPLES
            await asyncio.sleep(max(0.0, due - loop.time()))
            try:
                samples.append(await look())
            except PlatformError:
                continue  # the router is being restarted
        yield samples
        begin = max(begin + interval_s, loop.time() - interval_s)
