"""Problems: every 4xx and 5xx, the request id, and nothing of the inside."""

import logging

import numpy as np
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from app import problems
from app.reid import errors
from app.reid.errors import ReidError


def descendants(kind):
    return {kind, *(deeper for child in kind.__subclasses__() for deeper in descendants(child))}


def test_every_error_of_the_engine_has_a_row_or_is_an_inner_one():
    inner = {errors.BundleError, errors.ConfigError, errors.DataError, errors.ListedError, errors.LookupFailedError}
    known = {kind for kind in descendants(ReidError) if kind.__module__.startswith("app.")}
    assert known - inner == set(problems.ERRORS)


def test_types_are_told_apart():
    slugs = [kind.slug for kind in problems.ERRORS.values()]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize("path", ["/", "/nothing", "/similarity/", "/docs", "/redoc"])
def test_not_found(service, assert_problem, path):
    assert_problem(service().get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/similarity", "POST"),
        ("OPTIONS", "/embed", "POST"),
        ("POST", "/model", "GET"),
        ("DELETE", "/metrics", "GET"),
    ],
)
def test_method_not_allowed(service, assert_problem, method, path, allowed):
    response = service().request(method, path)
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allowed


def test_head_is_answered_without_a_body(service):
    response = service().head("/model")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")


class Failing:
    """A runtime that fails, or answers nonsense."""

    def __init__(self, answer):
        self.answer = answer

    def run(self, images):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("secret in /srv/weights"), np.full((1, 512), np.nan, np.float32), np.zeros((1, 512), np.float32)],
)
def test_failure_inside_tells_nothing_but_the_id(service, photo, assert_problem, answer, caplog):
    client = service(runtime=Failing(answer))
    files = {"query_image": photo(1), "gallery_image": photo(2)}
    with caplog.at_level(logging.ERROR):
        response = client.post("/similarity", files=files)
    body = assert_problem(response, 500, "internal-error")
    assert "secret" not in response.text
    assert "finite" not in response.text
    assert body["request_id"] in caplog.text


def test_request_id_of_the_client_is_kept(service, assert_problem):
    client = service()
    mine = "0123456789abcdef0123456789abcdef"
    assert client.get("/model", headers={"X-Request-ID": mine}).headers["x-request-id"] == mine
    response = client.get("/nothing", headers={"X-Request-ID": mine})
    assert assert_problem(response, 404, "not-found")["request_id"] == mine
    response = client.get("/nothing", headers={"X-Request-ID": "not an id"})
    assert assert_problem(response, 404, "not-found")["request_id"] != "not an id"


def test_full_disk_while_the_form_is_stored_is_no_fault_of_the_clients(service, photo, assert_problem, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device", "/tmp/x")

    monkeypatch.setattr("starlette.datastructures.UploadFile.write", full)
    assert_problem(service().post("/embed", files={"images": photo(1)}), 500, "internal-error")


def test_plain_text_errors_become_problems(assert_problem):
    app = problems.ProblemBodies(PlainTextResponse("nope", status_code=418))
    response = TestClient(app).get("/")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:jaguar-reid:problem:i'm-a-teapot"
    assert TestClient(problems.ProblemBodies(PlainTextResponse("fine"))).get("/").text == "fine"


def test_no_names_or_bytes_are_logged(service, photo, caplog):
    with caplog.at_level(logging.INFO):
        service().post("/embed", files=[("images", ("secret-name.png", photo(1)[:99]))])
    assert "secret-name" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("app")
    )
