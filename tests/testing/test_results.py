from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from aiohttp import web
from onnx import TensorProto, helper, numpy_helper
from serving import PATH, serving

from runbook.modelling import onnx_model
from runbook.modelling import request as contract
from runbook.modelling.description import description
from runbook.platform.base import Endpoint, Keys, Profile
from runbook.testing import cases, results
from runbook.testing.bad_requests import bad_requests
from runbook.testing.cases import Case
from runbook.testing.scoring_client import Client, Request

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Spoil = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph of the registered model's shape: float32 [N, 7] with NaN for null, to probability [N]."""
    weights = numpy_helper.from_array(
        np.array([[-1.0], [-2.5], [-0.02], [-0.3], [-0.1], [0.002], [0.1]], "float32"), "w"
    )
    zero, five = (numpy_helper.from_array(np.array(v, "float32"), n) for v, n in ((0, "zero"), (5, "five")))
    axis = numpy_helper.from_array(np.array([1], "int64"), "axis")
    nodes = [
        helper.make_node("IsNaN", ["passenger"], ["null"]),
        helper.make_node("Where", ["null", "zero", "passenger"], ["known"]),
        helper.make_node("MatMul", ["known", "w"], ["sum"]),
        helper.make_node("Add", ["sum", "five"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["probability"]),
    ]
    x = helper.make_tensor_value_info("passenger", TensorProto.FLOAT, [None, 7])
    p = helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None])
    graph = helper.make_graph(nodes, "tiny", [x], [p], initializer=[weights, zero, five, axis])
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def endpoint_of(onnx_file: Path, profile: Profile, spoil: Spoil = lambda answer: None) -> Handler:
    """Answer as the router and score.py of that profile do; ``spoil`` changes each answer of a scored row."""

    def score(request: web.Request, content: bytes) -> tuple[int, object]:
        try:
            if request.method != "POST":
                raise contract.ContractError(405, "method_not_allowed", None, "expected POST")
            if request.content_type != "application/json":
                raise contract.ContractError(415, "unsupported_media_type", None, "expected application/json")
            rows, many = contract.decode(content)
        except contract.ContractError as error:
            return error.status, error.body()
        probabilities = onnx_model.predict(onnx_file, np.array([values(row) for row in rows], dtype=np.float32))
        found = [{"prediction": int(p >= 0.5), "probability": float(p), "model_version": "7"} for p in probabilities]
        for answer in found:
            spoil(answer)
        return 200, found if many else found[0]

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer first":
            return web.json_response({"message": "invalid or missing key"}, status=401)
        if not request.path.endswith("/score"):
            return web.json_response({"message": "not found"}, status=404)
        status, document = score(request, await request.read())
        headers = ids(request)
        if profile == "managed" and status != 200:
            headers["ms-azureml-model-error-statuscode"] = str(status)
            status = 424
        return web.json_response(document, status=status, headers=headers)

    return handle


def ids(request: web.Request) -> dict[str, str]:
    """Return what Azure documents: an id of its own, and the client's cut at 40 characters."""
    sent = re.sub("[^A-Za-z0-9_-]", "", request.headers["x-ms-client-request-id"])[:40]
    return {"x-request-id": str(uuid.uuid4()), "x-ms-client-request-id": sent}


def values(row: Any) -> list[float]:
    return [float("nan") if getattr(row, f) is None else getattr(row, f) for f in contract.FIELDS]


def outcomes(
    handler: Handler, chosen: list[Case], profile: Profile = "kubernetes", version: str = "7"
) -> list[results.Outcome]:
    with serving(handler) as uri:
        endpoint = Endpoint("titanic", "prod", profile, uri, {}, (), {})
        return results.run(Client(endpoint, Keys("first", "second"), "blue"), chosen, version)


def every_case(onnx_file: Path) -> list[Case]:
    right = (
        cases.known_cases()
        + cases.golden_cases(onnx_file)
        + cases.list_cases(onnx_file)
        + cases.same_meaning_cases(onnx_file)
    )
    return right + cases.bad_cases() + cases.door_cases()


def junit(found: list[results.Outcome], monkeypatch: pytest.MonkeyPatch, reports: Path) -> ElementTree.Element:
    monkeypatch.setenv("RUNBOOK_REPORTS", str(reports))
    path = results.write_junit(found, "local-1", "dev")
    assert path == reports / "local-1" / "70_functional_test-dev" / "functional.junit.xml"
    return ElementTree.parse(path).getroot()  # noqa: S314 - we wrote it


@pytest.mark.parametrize("profile", ["managed", "kubernetes"])
def test_every_case_passes_on_a_right_endpoint_of_either_profile(onnx_file: Path, profile: Profile) -> None:
    found = outcomes(endpoint_of(onnx_file, profile), every_case(onnx_file), profile)
    assert [(o.case.name, o.problems) for o in found if not o.passed] == []
    assert len(found) > 150
    assert results.passed_by_group(found)["the article's six requests"] == 6
    assert list(results.overview(found)["failed"]) == [0] * 9


def test_a_status_of_the_other_profile_does_not_pass(onnx_file: Path) -> None:
    bad = cases.bad_cases()[:5]
    assert not any(o.passed for o in outcomes(endpoint_of(onnx_file, "managed"), bad, "kubernetes"))
    assert not any(o.passed for o in outcomes(endpoint_of(onnx_file, "kubernetes"), bad, "managed"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a: a.update(probability=a["probability"] + 2e-6), "probability"),
        (lambda a: a.update(prediction=1 - a["prediction"]), "prediction"),
        (lambda a: a.update(model_version="6"), "model_version 6, expected 7"),
        (lambda a: a.pop("model_version"), "model_version"),
        (lambda a: a.update(prediction=float(a["prediction"]) + 0.5), "prediction"),
    ],
)
def test_an_answer_that_is_wrong_in_one_thing_fails_the_golden_set(onnx_file: Path, spoil: Spoil, words: str) -> None:
    found = outcomes(endpoint_of(onnx_file, "kubernetes", spoil), cases.golden_cases(onnx_file)[:3])
    assert not any(o.passed for o in found)
    assert words in found[0].problems[0]


def test_a_golden_row_at_the_threshold_may_be_rounded_to_either_side(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = len(cases.golden_rows())
    monkeypatch.setattr(cases, "_predict", lambda onnx, asked: [0.5, 0.5 - 2e-6, *[0.7] * (rows - 2)])
    tied, close, *others = cases.golden_cases(onnx_file)
    assert (list(tied.predictions), list(tied.probabilities)) == ([], [0.5])
    assert list(close.predictions) == [0]
    assert all(list(case.predictions) == [1] for case in others)


@pytest.mark.parametrize("came_back", [None, "0" * 32])
def test_an_answer_without_the_id_of_its_request_fails(came_back: str | None) -> None:
    async def mixes_up(request: web.Request) -> web.Response:
        headers = {"x-ms-client-request-id": came_back} if came_back else {}
        return web.json_response({"prediction": 1, "probability": 0.9, "model_version": "7"}, headers=headers)

    (found, *_) = outcomes(mixes_up, cases.known_cases())
    assert found.problems == (f"x-ms-client-request-id {came_back!r} is not the one that was sent",)


def test_both_request_ids_of_a_case_are_in_the_evidence(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outcomes(endpoint_of(onnx_file, "kubernetes"), cases.known_cases()[:1])
    root = junit(found, monkeypatch, tmp_path)
    noted = {p.attrib["name"]: p.attrib["value"] for p in root[0].iter("property")}
    assert noted == dict(found[0].ids)
    assert uuid.UUID(noted["x-request-id"]).hex != uuid.UUID(noted["x-ms-client-request-id"]).hex


JSON = "application/json"
FLAWS: dict[str, Callable[[web.Request], dict[str, Any]]] = {
    "no key": lambda r: {} if "Authorization" in r.headers else {"Authorization": "Bearer first"},
    "wrong key": lambda r: {"Authorization": "Bearer first"} if "Authorization" in r.headers else {},
    "unknown path": lambda r: {"rel_url": PATH},
    "GET": lambda r: {"method": "POST"},
    "text/plain": lambda r: {"Content-Type": JSON} if r.headers.get("Content-Type") == "text/plain" else {},
    "no Content-Type": lambda r: {} if "Content-Type" in r.headers else {"Content-Type": JSON},
    "a Content-Type with a charset": lambda r: {"Content-Type": "other"} if r.charset else {},
}


@pytest.mark.parametrize("name", FLAWS)
def test_an_endpoint_that_lets_one_thing_through_fails_the_case_for_it(onnx_file: Path, name: str) -> None:
    right = endpoint_of(onnx_file, "kubernetes")

    async def flawed(request: web.Request) -> web.StreamResponse:
        change = FLAWS[name](request)
        line = {part: change.pop(part) for part in ("rel_url", "method") if part in change}
        return await right(request.clone(**line, headers={**request.headers, **change}))

    found = outcomes(flawed, cases.door_cases())
    assert [o.case.name for o in found if not o.passed] == [name]


def test_the_catalogue_has_every_case_that_it_promises(onnx_file: Path) -> None:
    count = Counter(case.group for case in every_case(onnx_file))
    assert count == {
        **{group: len(named) for group, named in description().known_cases.items()},
        cases.GOLDEN: len(cases.golden_rows()),
        cases.LISTS: 4,
        cases.SAME: 6,
        cases.BAD: len(list(bad_requests())),
        cases.DOORS: len(FLAWS),
    }
    assert [c.rows for c in cases.list_cases(onnx_file)] == [1, 2, len(cases.golden_rows()), cases.LIMIT]


def test_a_refusal_that_names_another_field_fails(onnx_file: Path) -> None:
    wrong = Case(cases.BAD, "Age: -5", Request(b'{"Pclass": 9}'), status=422, field="Age")
    (found,) = outcomes(endpoint_of(onnx_file, "kubernetes"), [wrong])
    assert found.problems == ("field 'Pclass', expected 'Age'",)


def test_a_refusal_in_another_shape_fails() -> None:
    async def html(request: web.Request) -> web.Response:
        return web.Response(status=422, text="<h1>Unprocessable</h1>", headers=ids(request))

    (found, *_) = outcomes(html, cases.bad_cases())
    assert found.problems == ("the body names no error with code, field and message",)


def test_nobody_listening_fails_every_case_and_says_so(onnx_file: Path) -> None:
    endpoint = Endpoint("titanic", "dev", "managed", "http://127.0.0.1:9/score", {}, (), {})
    found = results.run(Client(endpoint, Keys("a", "b"), "blue"), cases.known_cases(), "7")
    assert results.passed_by_group(found)["the article's six requests"] == 0
    assert "no answer" in found[0].found


def test_the_catalogue_refuses_lists_that_are_empty_or_too_long() -> None:
    by_name = {c.name: c.status for c in cases.bad_cases()}
    assert by_name["an empty list"] == 422
    assert by_name["1,001 rows"] == 413


def test_the_golden_rows_are_valid_and_hold_nulls_and_both_ends_of_every_range() -> None:
    rows = [cases.document(row) for row in cases.golden_rows()]
    for row in rows:
        contract.validated(row)
    for field in ("Age", "Fare", "Embarked"):
        assert any(row[field] is None for row in rows)


def test_the_table_and_the_junit_file_say_what_failed(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = cases.known_cases()[:2]
    found = outcomes(endpoint_of(onnx_file, "kubernetes"), chosen, version="8")
    table = results.table(found)
    assert list(table.columns) == ["group", "case", "sent", "wanted", "found", "seconds", "verdict"]
    assert all(table["verdict"].str.startswith("FAILED: not the expected answer: model_version 7, expected 8"))
    root = junit(found, monkeypatch, tmp_path)
    assert (root.attrib["tests"], root.attrib["failures"]) == ("2", "2")
    assert [c.attrib["name"] for c in root] == ["Mrs. Cumings lives", "Mr. Kelly dies"]


def test_the_junit_file_survives_what_xml_can_not_hold(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Case(cases.BAD, "a \x00 in the name", Request(b"\x00\xff<&"), status=422, field="Age")
    found = outcomes(endpoint_of(onnx_file, "kubernetes"), [odd])
    root = junit(found, monkeypatch, tmp_path)
    assert root[0].attrib["name"] == "a ? in the name"
    assert "expected 422" in str(root[0].findtext("failure"))
