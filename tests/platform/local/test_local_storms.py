"""Kill storms; RUNBOOK_STORMS and RUNBOOK_STORM_SECONDS make them as many and as long as one has time for."""

from __future__ import annotations

import os

import pytest
import storm
from local_cloud import Cloud

STORMS = int(os.environ.get("RUNBOOK_STORMS", "2"))
SECONDS = float(os.environ.get("RUNBOOK_STORM_SECONDS", "8"))


@pytest.mark.slow
@pytest.mark.timeout(300 + int(STORMS * (SECONDS + storm.LONGEST_WAIT_S)))
def test_after_every_kill_storm_all_replicas_serve_again_and_no_deployment_with_traffic_failed(cloud: Cloud) -> None:
    cloud.serve("prod")
    for _ in range(STORMS):
        this = storm.rage(cloud.platform, "prod", SECONDS)
        assert this.kills >= SECONDS / 2
        assert this.failed == []
        assert this.recovered_s is not None
        assert cloud.post("prod").status == 200
