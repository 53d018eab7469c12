from __future__ import annotations

from pathlib import Path

import pytest
from azure_standin.fixtures import Candidate
from azure_standin.standin import StandIn

from runbook.errors import NotFound, PlatformError
from runbook.platform.azure import AzurePlatform
from runbook.platform.base import ModelVersion

pytest_plugins = ["azure_standin.fixtures"]


def test_the_same_source_and_digest_give_the_same_version(
    azure: AzurePlatform, candidate: Candidate, standin: StandIn
) -> None:
    arguments = ("Titanic", candidate.source, candidate.digest, "Titanic survival", {"run_id": "r1"})
    first, second = azure.register_model(*arguments), azure.register_model(*arguments)
    assert (first.changed, second.changed) == (True, False)
    assert first.result == second.result
    assert first.result.version == "1"
    assert first.result.digest == candidate.digest
    assert first.result.tags["run_id"] == "r1"
    assert len(standin.sent("PUT", "/models/Titanic/versions/")) == 1


def test_no_job_is_ever_asked_to_register_a_version_itself(
    azure: AzurePlatform, version: ModelVersion, standin: StandIn
) -> None:
    assert all("assetVersion" not in str(e.sent) for e in standin.state.exchanges)


def test_versions_compare_as_numbers(azure: AzurePlatform, candidate: Candidate) -> None:
    for number in range(1, 11):
        azure.register_model("Titanic", candidate.source, f"{number:064d}", "", {})
    found = azure.find_model("Titanic")
    assert found and found.version == "10"


def test_an_unknown_model_is_none(azure: AzurePlatform, version: ModelVersion) -> None:
    assert azure.find_model("Olympic") is None
    assert azure.find_model("Titanic", version="99") is None
    assert azure.find_model("Titanic", alias="champion") is None


def test_a_downloaded_model_has_the_registered_bytes(
    azure: AzurePlatform, version: ModelVersion, tmp_path: Path
) -> None:
    path = azure.download_model("Titanic", version.version, tmp_path / "into")
    assert path.name == "model.onnx"
    assert (tmp_path / "into") in path.parents


def test_other_bytes_than_the_registered_ones_are_refused(
    azure: AzurePlatform, candidate: Candidate, tmp_path: Path
) -> None:
    wrong = azure.register_model("Titanic", candidate.source, "0" * 64, "", {}).result
    with pytest.raises(PlatformError, match="expected 0000"):
        azure.download_model("Titanic", wrong.version, tmp_path / "into")


def test_downloading_what_is_not_there_says_so(azure: AzurePlatform, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="az ml model list"):
        azure.download_model("Titanic", "1", tmp_path)


def test_there_is_one_champion_and_promoting_it_again_changes_nothing(
    azure: AzurePlatform, candidate: Candidate
) -> None:
    for number in (1, 2):
        azure.register_model("Titanic", candidate.source, f"{number:064d}", "", {})
    assert azure.promote_model("Titanic", "1").changed
    assert azure.promote_model("Titanic", "2").changed
    assert not azure.promote_model("Titanic", "2").changed
    champion = azure.find_model("Titanic", alias="champion")
    assert champion and champion.version == "2"
    first = azure.find_model("Titanic", version="1")
    assert first and first.aliases == ()


def test_a_promotion_broken_off_after_its_first_request_leaves_one_champion(
    azure: AzurePlatform, candidate: Candidate, standin: StandIn
) -> None:
    for number in (1, 2):
        azure.register_model("Titanic", candidate.source, f"{number:064d}", "", {})
    azure.promote_model("Titanic", "1")
    standin.faults.refuse("PUT", "/models/Titanic/versions/1$", 403, "AuthorizationFailed", "No.")
    with pytest.raises(PlatformError, match="AuthorizationFailed"):
        azure.promote_model("Titanic", "2")
    champion = azure.find_model("Titanic", alias="champion")
    assert champion and champion.version == "2"


def test_promoting_what_is_not_there_is_refused(azure: AzurePlatform) -> None:
    with pytest.raises(NotFound, match="Titanic:5"):
        azure.promote_model("Titanic", "5")


def test_a_demoted_model_leaves_no_champion_and_demoting_again_changes_nothing(
    azure: AzurePlatform, candidate: Candidate
) -> None:
    azure.register_model("Titanic", candidate.source, "1" * 64, "", {})
    azure.promote_model("Titanic", "1")
    assert azure.demote_model("Titanic").changed
    assert azure.find_model("Titanic", alias="champion") is None
    assert not azure.demote_model("Titanic").changed
