"""How many replicas there should be: the published formula of Azure's inference router.

utilization = (replicas busy processing a request + requests queued) / current replicas; above the target replicas are
created at once, below it they are removed slowly, "around 20 times" slower.
Source: https://learn.microsoft.com/azure/machine-learning/how-to-kubernetes-inference-routing-azureml-fe. Ours, because
not documented: demand is the mean of SAMPLES looks per polling interval, and the step goes straight to the wanted number.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from runbook.errors import PlatformError

# One look per interval would see a busy moment or an idle one and swing between most and least.
SAMPLES = 10


@dataclass
class Scaler:
    """The memory of one deployment's scaling: the demands of the current calm."""

    least: int
    most: int
    target: float
    calm_polls: int
    calm: tuple[int, ...] = ()

    def desired(self, demand: float) -> int:
        """Return the replicas that bring ``demand`` (busy replicas + queued requests) to ``target`` percent."""
        # The tiny subtraction keeps 1.5 / 0.5 at 3 when the mean of the samples carries a rounding error.
        return max(self.least, min(self.most, math.ceil(demand / (self.target / 100) - 1e-9)))

    def decide(self, samples: Sequence[float], current: int) -> int:
        """Return how many replicas there should be after one polling interval with these samples."""
        if not samples:
            return current
        desired = self.desired(sum(samples) / len(samples))
        if desired >= current:
            self.calm = ()
            return desired
        self.calm = (*self.calm, desired)
        if len(self.calm) < self.calm_polls:
            return current
        # The busiest poll of the calm counts: going lower would start replicas again at the next such poll.
        wanted, self.calm = max(self.calm), ()
        return wanted


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
