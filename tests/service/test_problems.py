"""Problems: every 4xx and 5xx, the request id, and nothing of the inside."""

import asyncio
import errno
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


@pytest.mark.parametrize("path", ["/nothing", "/similarity/", "/docs", "/redoc"])
def test_not_found(service, assert_problem, path):
    assert_problem(service().get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/similarity", "POST"),
        ("OPTIONS", "/embed", "POST"),
        ("POST", "/model", "GET"),
        ("DELETE", "/metrics", "GET"),
        ("PUT", "/jobs/f4Qk0vX3T5mJ8dYw2sLz1A", "DELETE, GET"),
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


@pytest.mark.parametrize(
    ("number", "status", "slug"),
    [
        (errno.ENOSPC, 507, "no-space"),
        (errno.EDQUOT, 507, "no-space"),
        (errno.EFBIG, 507, "no-space"),
        (errno.EIO, 500, "internal-error"),
    ],
)
def test_a_form_that_cannot_be_stored_is_no_fault_of_the_clients(
    service, photo, assert_problem, monkeypatch, number, status, slug
):
    def full(self, data):
        raise OSError(number, "No space left on device", "/tmp/x")

    monkeypatch.setattr("starlette.datastructures.UploadFile.write", full)
    assert_problem(service().post("/embed", files={"images": photo(1)}), status, slug)


def bodies(app) -> TestClient:
    return TestClient(problems.ProblemBodies(app), raise_server_exceptions=True)


def test_plain_text_errors_become_problems():
    response = bodies(PlainTextResponse("nope", status_code=418)).get("/")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:jaguar-reid:problem:i'm-a-teapot"
    assert bodies(PlainTextResponse("fine")).get("/").text == "fine"


def test_what_nobody_expected_is_answered_inside_all_other_middleware(caplog):
    async def failing(scope, receive, send):
        raise KeyError("secret")

    response = bodies(failing).get("/")
    assert response.status_code == 500
    assert response.json()["type"] == "urn:jaguar-reid:problem:internal-error"
    assert "secret" not in response.text
    assert "secret" in caplog.text


def test_an_answer_that_has_begun_cannot_become_a_problem():
    async def failing_late(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"):
        bodies(failing_late).get("/")


def test_a_start_that_fails_is_no_request():
    async def failing(scope, receive, send):
        raise KeyError(scope["type"])

    with pytest.raises(KeyError, match="lifespan"):
        asyncio.run(problems.ProblemBodies(failing)({"type": "lifespan"}, None, None))


@pytest.mark.parametrize(
    ("method", "call", "breaks"),
    [("POST", "/embed", "app.routes.embed.check_image_size"), ("GET", "/jobs/x", "app.jobs.Jobs.get")],
)
def test_failures_inside_carry_all_headers_that_answers_have(
    service, assert_problem, monkeypatch, method, call, breaks
):
    def broken(*_):
        raise KeyError("secret")

    monkeypatch.setattr(breaks, broken)
    client = service(cors_origins=("https://a.org",))
    files = {"images": b"x"} if method == "POST" else None
    response = client.request(method, call, files=files, headers={"Origin": "https://a.org"})
    assert_problem(response, 500, "internal-error")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["access-control-allow-origin"] == "https://a.org"


def test_a_body_over_the_limit_is_refused_with_all_headers(service, assert_problem):
    response = service(max_images_body_bytes=10).post("/embed", files={"images": b"x" * 100})
    assert_problem(response, 413, "body-too-large")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "total;dur=" in response.headers["server-timing"]


def test_no_names_or_bytes_are_logged(service, photo, caplog):
    with caplog.at_level(logging.INFO):
        service().post("/embed", files=[("images", ("secret-name.png", photo(1)[:99]))])
    assert "secret-name" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("app")
    )
