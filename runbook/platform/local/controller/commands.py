"""Carries out the commands of a controller: deploy, traffic, tag, delete. One at a time, each done or undone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from runbook.errors import PlatformError
from runbook.platform.local.controller.replicas import Fleet
from runbook.platform.local.controller.state import Deployment, Replica
from runbook.platform.local.controller.state_store import Book, say
from runbook.platform.local.haproxy.router import Router


class Orders:
    """The orders of one endpoint; each takes a request and returns whether anything changed."""

    def __init__(self, book: Book, router: Router, fleet: Fleet) -> None:
        self.book, self.router, self.fleet = book, router, fleet
        self.verbs: dict[str, Callable[[Mapping[str, Any]], Awaitable[bool]]] = {
            "deploy": self.deploy,
            "traffic": self.traffic,
            "tag": self.tag,
            "delete": self.delete,
        }

    async def deploy(self, request: Mapping[str, Any]) -> bool:
        """Make a deployment serve; raises PlatformError with the replica's log and leaves what served before."""
        new = msgspec.convert(request["deployment"], Deployment)
        before = self.book.state.deployments.get(new.name)
        served = before is not None and before.state == "ready"
        if before is not None and before.same(new) and self.book.state.condition(new.name) == "ready":
            return False
        new = replace(new, revision=self.book.state.started + 1, state="creating", failure="")
        if not served:
            self.book.commit(deployments={**self.book.state.deployments, new.name: new})
        try:
            await self._switch(new)
        except PlatformError as error:
            if not served:
                self.book.put_deployment(replace(new, state="failed", failure=str(error.args[0])))
            raise
        return True

    async def traffic(self, request: Mapping[str, Any]) -> bool:
        """Put percentages and tags in force in one move; raises PlatformError for a deployment that is not ready."""
        traffic: dict[str, int] = dict(request["traffic"])
        before = self.book.state
        tags = {**before.tags, **request["tags"]}
        for name, percent in traffic.items():
            condition = before.condition(name) if name in before.deployments else "not there"
            # What is already sent to a deployment may stay there while its replicas are started again.
            if percent > before.traffic.get(name, 0) and condition != "ready":
                raise PlatformError(
                    f"Deployment {name} of {before.name} is {condition}, expected ready: it cannot get traffic. "
                    "Deploy it first."
                )
        if _shares(traffic) == _shares(before.traffic) and tags == before.tags:
            return False
        self.book.commit(traffic=traffic, tags=tags)
        try:
            await self._patiently(lambda: self.router.set_traffic(self.book.state))
        except PlatformError:
            self.book.follow(traffic=before.traffic, tags=before.tags)
            raise
        return True

    async def tag(self, request: Mapping[str, Any]) -> bool:
        """Add tags, or change them."""
        tags = {**self.book.state.tags, **request["tags"]}
        if tags == self.book.state.tags:
            return False
        self.book.commit(tags=tags)
        return True

    async def delete(self, request: Mapping[str, Any]) -> bool:
        """Remove a deployment; raises PlatformError when it has traffic."""
        name, before = request["name"], self.book.state
        if name not in before.deployments:
            return False
        if before.traffic.get(name):
            raise PlatformError(
                f"Deployment {name} of {before.name} has {before.traffic[name]} % of the traffic, expected 0 before it is "
                "deleted: set the traffic first."
            )
        leaving = [replace(r, state="draining") for r in before.replicas.values() if r.deployment == name]
        self.book.commit(
            deployments={n: d for n, d in before.deployments.items() if n != name},
            traffic={n: p for n, p in before.traffic.items() if n != name},
            replicas={**before.replicas, **{r.id: r for r in leaving}},
        )
        await self._patiently(self.router.reload)
        await self._end_unrouted(leaving, before.deployments[name])
        return True

    async def _switch(self, new: Deployment) -> None:
        started = await self.fleet.raise_all(new)
        before = self.book.state
        fresh = {r.id: replace(r, state="ready") for r in started}
        leaving = [
            replace(r, state="draining")
            for r in before.replicas.values()
            if r.deployment == new.name and r.id not in fresh
        ]
        try:
            self.book.commit(
                deployments={**before.deployments, new.name: replace(new, state="ready")},
                replicas={**before.replicas, **{r.id: r for r in leaving}, **fresh},
            )
            await self._patiently(self.router.reload)
        except PlatformError:
            living = self.book.state.replicas
            back = {r.id: before.replicas[r.id] for r in leaving if r.id in living}
            self.book.follow(deployments=before.deployments, replicas={**living, **back})
            await self.fleet.end(started, 0)
            raise
        self.fleet.keep(self.book.state.deployments[new.name])
        await self._end_unrouted(leaving, new)

    async def _end_unrouted(self, leaving: list[Replica], deployment: Deployment) -> None:
        """End replicas that only requests from before the last reload can still be at."""
        serving = deployment.serving
        if leaving:
            try:
                await self.router.drained((serving.queue_wait_ms + serving.scoring_timeout_ms) / 1000)
            except PlatformError as error:  # it was restarted meanwhile, and its old requests went with it
                say("router away", error=str(error))
            await self.fleet.end(leaving, serving.scoring_timeout_ms / 1000)
        self._tidy_code()

    def _tidy_code(self) -> None:
        used = {d.code_digest for d in self.book.state.deployments.values()}
        for folder in (self.book.folder / "code").glob("*"):
            if folder.name not in used:
                # What cannot be removed now is tried again with the next deployment.
                shutil.rmtree(folder, ignore_errors=True)

    async def _patiently(self, command: Callable[[], Awaitable[None]]) -> None:
        # A router that has just died is back within a moment, and then the same command succeeds.
        for wait_s in (0.5, 1.0, None):
            try:
                return await command()
            except PlatformError:
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)


def _shares(traffic: Mapping[str, int]) -> dict[str, int]:
    return {name: percent for name, percent in traffic.items() if percent}
