from __future__ import annotations

from runbook.testing import scaling


def test_prod_scales_between_the_limits_of_its_deployment_file() -> None:
    prod = scaling.scaling("prod")
    assert (prod.minimum, prod.maximum, prod.polling_seconds, prod.scales) == (3, 6, 1, True)
    assert prod.settle_seconds(20) == 45


def test_dev_has_one_replica_and_does_not_scale() -> None:
    dev = scaling.scaling("dev")
    assert (dev.minimum, dev.maximum, dev.scales) == (1, 1, False)


def test_a_history_is_told_in_seconds_since_the_load_began() -> None:
    table = scaling.table([(100.0, 3, 3), (101.5, 6, 3), (102.5, 6, 6)], began=100.0, seconds=9.0)
    assert list(table["second"]) == [0.0, 1.5, 2.5, 9.0]
    assert list(table["ready"]) == [3, 3, 6, 6]


def test_a_platform_that_can_not_tell_leaves_an_empty_table() -> None:
    table = scaling.table(None, began=0.0, seconds=9.0)
    assert table.empty
    assert list(table.columns) == ["second", "wanted", "ready"]
