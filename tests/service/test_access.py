"""Who gets in: keys, rates and what browsers are told, around a small application of the tests' own."""

import asyncio
import hmac
import time

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import access
from app.access import ApiKeys, Keyring, PrintablePaths, RateLimit, SecurityHeaders, protect
from app.problems import install
from app.routes.page import FOLDER, add_page
from app.settings import Settings

USER, OTHER, ADMIN = "user-key-1", "user-key-2", "admin-key"
BEARER = {"Authorization": f"Bearer {USER}"}
AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}
KEYED = {"api_keys": f"{USER},{OTHER}", "admin_key": ADMIN}


def small_app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    install(app)

    @app.post("/model/reload")
    def reload() -> str:
        return "reloaded"

    @app.post("/similarity")
    async def similarity() -> str:
        return "compared"

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret words")

    @app.get("/own")
    async def own() -> Response:
        return Response(headers={"Cache-Control": "max-age=5", "Content-Security-Policy": "sandbox"})

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        return PlainTextResponse(name)

    for path in ("/", "/health/live", "/health/ready", "/model"):
        app.add_api_route(path, lambda: "hello")
    return app


def client(app: ASGIApp | None = None, host: str = "192.0.2.1", **settings: object) -> TestClient:
    protected = protect(app or small_app(), Settings.model_validate(settings))
    return TestClient(protected, raise_server_exceptions=False, client=(host, 50_000))


def answer(app: ASGIApp, scope: Scope) -> list[Message]:
    """What an application sends without being given a body: asking for one fails the test."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app({"headers": [], "query_string": b"", **scope}, receive, send))
    return sent


def problem(response, status: int, slug: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["type"]) == (status, f"urn:jaguar-reid:problem:{slug}")
    assert not any(key in response.text + str(response.headers) for key in (USER, OTHER, ADMIN))
    return body


# Keys


def test_without_keys_everything_is_open_but_the_reload():
    with client() as open_client:
        assert open_client.get("/model").status_code == 200
        assert open_client.get("/model", headers={"X-API-Key": "any"}).status_code == 200
        assert open_client.post("/similarity").json() == "compared"
        assert "JAGUAR_ADMIN_KEY" in problem(open_client.post("/model/reload"), 403, "forbidden")["detail"]


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/health/live", "/health/ready"])
def test_probes_and_the_page_need_no_key(path):
    with client(**KEYED) as keyed:
        assert keyed.get(path).status_code == 200
        assert keyed.get(path, headers={"X-API-Key": "wrong"}).status_code == 200


@pytest.mark.parametrize("path", ["/model", "/nowhere", "/health", "/health/live/", "/static", "/broken"])
def test_everything_else_needs_one(path):
    with client(**KEYED) as keyed:
        response = keyed.get(path)
        assert response.headers["www-authenticate"] == "Bearer"
        problem(response, 401, "unauthorized")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {USER}"},
        {"Authorization": f"bearer   {OTHER} "},
        {"X-API-Key": USER},
        {"X-API-Key": f" {OTHER}\t"},
        {"X-API-Key": ADMIN},
        {"Authorization": f"Bearer {ADMIN}"},
        {"Authorization": "Bearer wrong", "X-API-Key": USER},
        {"Authorization": f"Bearer {USER}", "X-API-Key": "wrong"},
        {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": USER},
    ],
)
def test_a_known_key_opens(headers):
    with client(**KEYED) as keyed:
        assert keyed.get("/model", headers=headers).json() == "hello"
        assert keyed.post("/similarity", headers=headers, content=b"photo").json() == "compared"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": USER},
        {"Authorization": f"Basic {USER}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer{USER}"},
        {"Authorization": f"Bearer {USER},{OTHER}"},
        {"Authorization": f"Bearer {USER[:-1]}"},
        {"Authorization": f"Bearer {USER.upper()}"},
        {"X-API-Key": ""},
        {"X-API-Key": "  "},
        {"X-API-Key": f"{USER}x"},
        {"X-API-Key": f"Bearer {USER}"},
        {"Cookie": f"X-API-Key={USER}"},
        {"Authorization": "Bearer wrong", "X-API-Key": "wrong"},
    ],
)
def test_anything_else_does_not(headers):
    with client(**KEYED) as keyed:
        problem(keyed.get("/model", headers=headers), 401, "unauthorized")
        problem(keyed.get(f"/model?api_key={USER}", headers=headers), 401, "unauthorized")


@given(st.binary(), st.binary())
def test_any_bytes_in_the_headers_are_401_and_the_body_stays_unread(authorization, key):
    app = protect(small_app(), Settings.model_validate(KEYED))
    headers = [(b"authorization", authorization), (b"authorization", b"Bearer " + key), (b"x-api-key", key)]
    scope = {"type": "http", "method": "POST", "path": "/similarity", "headers": headers}
    start, body = answer(app, scope)
    assert start["status"] == 401
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    assert not body.get("more_body", False)


def test_a_key_beyond_ascii_is_compared_by_its_bytes():
    # à in UTF-8 ends with the byte that Latin-1 reads as a no-break space
    keyring = Keyring([SecretStr("clé-à")], [])
    for key, known in (("clé-à".encode(), True), ("clé-à".encode("latin-1"), False)):
        assert bool(keyring.caller({"type": "http", "headers": [(b"x-api-key", key)]})) is known


def test_of_a_header_that_comes_twice_the_first_counts():
    with client(**KEYED) as keyed:
        assert keyed.get("/model", headers=[("X-API-Key", USER), ("X-API-Key", "wrong")]).status_code == 200
        assert keyed.get("/model", headers=[("X-API-Key", "wrong"), ("X-API-Key", USER)]).status_code == 401


@pytest.mark.parametrize("key", [USER, OTHER, ADMIN, "wrong", "w"])
def test_a_key_is_compared_with_all_there_are_at_one_length(key, monkeypatch):
    compared = []

    def spy(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return real(left, right)

    real = hmac.compare_digest
    keyring = Keyring(Settings.model_validate(KEYED).api_keys, Settings.model_validate(KEYED).admin_key)
    monkeypatch.setattr(access.hmac, "compare_digest", spy)
    keyring.caller({"type": "http", "headers": [(b"x-api-key", key.encode())]})
    assert compared == [(32, 32)] * 3


def test_nothing_that_is_kept_prints_a_key():
    keyring = Keyring(Settings.model_validate(KEYED).api_keys, Settings.model_validate(KEYED).admin_key)
    caller = keyring.caller({"type": "http", "headers": [(b"x-api-key", USER.encode())]})
    assert caller is not None
    assert not any(key in repr(vars(keyring)) + repr(caller) for key in (USER, OTHER, ADMIN))


def test_a_websocket_needs_a_key_as_well():
    [start, _] = answer(protect(small_app(), Settings.model_validate(KEYED)), {"type": "websocket", "path": "/model"})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)


# The admin key


def test_reload_takes_the_admin_key_alone():
    with client(**KEYED) as keyed:
        assert keyed.post("/model/reload", headers=AS_ADMIN).json() == "reloaded"
        assert keyed.post("/model/reload", headers={"X-API-Key": ADMIN}).json() == "reloaded"
        assert keyed.post("/model/reload", headers={**BEARER, "X-API-Key": ADMIN}).json() == "reloaded"
        assert keyed.post("/model/reload", headers={**AS_ADMIN, "X-API-Key": USER}).json() == "reloaded"
        problem(keyed.post("/model/reload", headers=BEARER), 403, "forbidden")
        for headers in ({}, {"X-API-Key": "wrong"}):
            response = keyed.post("/model/reload", headers=headers)
            assert response.headers["www-authenticate"] == "Bearer"
            problem(response, 401, "unauthorized")
        assert keyed.get("/model/reload", headers=BEARER).status_code == 405


def test_several_admin_keys_while_they_change():
    with client(admin_key="old,new") as keyed:
        assert keyed.get("/model").status_code == 200
        for key in ("old", "new"):
            assert keyed.post("/model/reload", headers={"X-API-Key": key}).status_code == 200
        problem(keyed.post("/model/reload"), 401, "unauthorized")


def test_without_an_admin_key_an_api_key_does_not_reload():
    with client(api_keys=USER) as keyed:
        detail = problem(keyed.post("/model/reload", headers=BEARER), 403, "forbidden")["detail"]
        assert "JAGUAR_ADMIN_KEY" in detail


def test_a_key_that_is_both_is_an_admins():
    with client(api_keys="both", admin_key="both") as keyed:
        assert keyed.post("/model/reload", headers={"X-API-Key": "both"}).status_code == 200


@pytest.mark.parametrize("path", ["/model/reload%0A", "/model/reload%0a", "/model/reload%0D%0A", "/model/reload%00"])
def test_a_line_end_leads_around_no_check(path):
    """Starlette's own routing lets `/model/reload` and a line end through to the reload."""
    assert TestClient(small_app()).post("/model/reload%0A").json() == "reloaded"
    with client(**KEYED) as keyed:
        problem(keyed.post(path, headers=BEARER), 404, "not-found")
        problem(keyed.post(path), 401, "unauthorized")


# The rate


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse("hello")(scope, receive, send)


NO_KEYS = Keyring((), ())


def limited(text: str, clock: Clock, keyring: Keyring = NO_KEYS, max_clients: int = 100) -> RateLimit:
    return RateLimit(hello, text, keyring, max_clients, clock)


def status(app: ASGIApp, host: str | None = "192.0.2.1", path: str = "/model", **headers: str) -> tuple[int, str]:
    """(status, Retry-After) of one request."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "client": None if host is None else (host, 1),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    start, _ = answer(app, scope)
    return start["status"], dict(start["headers"]).get(b"retry-after", b"").decode()


def test_so_many_requests_and_no_more_until_the_time_is_over():
    clock = Clock()
    app = limited("3/minute", clock)
    assert [status(app) for _ in range(5)] == [(200, "")] * 3 + [(429, "60")] * 2
    clock.now += 59.5
    assert status(app) == (429, "1")
    clock.now += 0.4999999
    assert status(app) == (429, "1")
    clock.now += 0.1
    assert [status(app) for _ in range(4)] == [(200, "")] * 3 + [(429, "60")]


@given(st.integers(1, 5), st.integers(1, 4), st.lists(st.floats(0, 3), max_size=40))
def test_rate_agrees_with_a_slow_count(most, seconds, steps):
    """By the other road: the times of all requests are kept, and those of the stretch are counted."""
    clock = Clock()
    app = limited(f"{most}/{seconds} seconds", clock)
    began, asked = None, 0
    for step in steps:
        clock.now += step
        if began is None or clock.now >= began + seconds:
            began, asked = clock.now, 0
        asked += 1
        answered, retry_after = status(app)
        assert answered == (200 if asked <= most else 429)
        if answered == 429:
            assert clock.now + int(retry_after) >= began + seconds > clock.now + int(retry_after) - 1 - 1e-9


def test_429_tells_what_is_allowed_and_when_to_come_again():
    with client(rate_limit="2/minute") as limited_client:
        assert [limited_client.get("/model").status_code for _ in range(2)] == [200, 200]
        response = limited_client.get("/model")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert "2/minute" in problem(response, 429, "too-many-requests")["detail"]


def test_a_hundred_requests_at_once_from_one_client():
    with client(rate_limit="10/minute") as one:
        assert [one.get("/model").status_code for _ in range(100)] == [200] * 10 + [429] * 90


def test_probes_and_the_page_are_not_counted():
    app = limited("1/day", Clock())
    open_paths = ("/health/live", "/health/ready", "/", "/static/js/main.js", "/static/css/page.css")
    for path in open_paths:
        assert [status(app, path=path)[0] for _ in range(5)] == [200] * 5
    assert status(app) == (200, "")  # the first that counts
    for path in open_paths:
        assert [status(app, path=path)[0] for _ in range(5)] == [200] * 5
    for path in ("/health/other", "/static", "/statics/a.js", "//"):
        assert status(app, path=path)[0] == 429


def test_the_whole_page_leaves_the_rate_to_the_calls():
    """All files that lie in the package, as a browser fetches them for one visit."""
    files = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
    assert len(files) > 20
    app = FastAPI()
    add_page(app)
    app.add_api_route("/model", lambda: "hello")
    with client(app, rate_limit="1/day") as visitor:
        assert {visitor.get(path).status_code for path in ["/", *(f"/static/{name}" for name in files)]} == {200}
        assert [visitor.get("/model").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:9", True),
        ("2001:db8:0:0::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("unix:", "unix:", True),
        ("a name", "b" * 100_000, False),
        (None, None, True),
        (None, "192.0.2.1", False),
    ],
)
def test_a_client_is_an_address_or_a_network(one, other, same):
    app = limited("1/day", Clock())
    assert status(app, one)[0] == 200
    assert status(app, other)[0] == (429 if same else 200)


def test_a_client_is_a_known_key_wherever_it_comes_from():
    keyring = Keyring(Settings.model_validate(KEYED).api_keys, Settings.model_validate(KEYED).admin_key)
    app = RateLimit(ApiKeys(hello, keyring), "1/day", keyring, timer=Clock())
    assert status(app, "192.0.2.1", x_api_key=USER)[0] == 200
    assert status(app, "192.0.2.2", x_api_key=USER)[0] == 429
    assert status(app, "192.0.2.1", x_api_key=OTHER)[0] == 200
    assert status(app, "192.0.2.1", x_api_key=ADMIN)[0] == 200
    assert status(app, "192.0.2.1", x_api_key="wrong")[0] == 401
    assert status(app, "192.0.2.1", x_api_key="another guess")[0] == 429
    assert status(app, "192.0.2.2", x_api_key="wrong")[0] == 401


def test_many_clients_take_a_bounded_room():
    app = limited("1/day", Clock(), max_clients=3)
    assert [status(app, host)[0] for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3")] == [200] * 3
    assert status(app, "10.0.0.1")[0] == 429  # and so it is not the one that was quiet longest
    assert status(app, "10.0.0.4")[0] == 200
    assert status(app, "10.0.0.1")[0] == 429
    assert status(app, "10.0.0.2")[0] == 200
    assert len(app._stretches) == 3


def test_what_is_over_is_forgotten():
    clock = Clock()
    app = limited("1/second", clock)
    for last in range(50):
        status(app, f"10.0.0.{last}")
    clock.now += 1.5
    status(app, "10.0.1.1")
    assert len(app._stretches) == 1


def test_the_clock_is_one_that_nobody_sets():
    assert RateLimit(hello, "1/day", NO_KEYS)._timer is time.monotonic


def test_a_text_that_is_no_rate_is_refused():
    with pytest.raises(ValueError, match="often"):
        RateLimit(hello, "often", NO_KEYS)


# What browsers are told

API_POLICY = "default-src 'none'; frame-ancestors 'none'"


def assert_headers(response) -> None:
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "headers", "answered"),
    [("/model", BEARER, 200), ("/nowhere", BEARER, 404), ("/broken", BEARER, 500), ("/model", {}, 401)],
)
def test_every_answer_has_the_headers(path, headers, answered):
    with client(**KEYED, rate_limit="1/minute") as keyed:
        for expected in (answered, 429):
            response = keyed.get(path, headers=headers)
            assert response.status_code == expected
            assert_headers(response)
            assert response.headers["content-security-policy"] == API_POLICY
            assert response.headers["cross-origin-resource-policy"] == "same-origin"
            assert "secret words" not in response.text


@pytest.mark.parametrize("path", ["/", "/static/page.js"])
def test_the_page_may_load_its_own_things(path):
    with client() as browser:
        response = browser.get(path)
        assert_headers(response)
        policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'self'",
            "img-src": "'self' blob: data:",
            "style-src": "'self'",
            "script-src": "'self'",
            "connect-src": "'self'",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
            "form-action": "'self'",
        }


def test_an_answers_own_headers_stay():
    with client() as browser:
        response = browser.get("/own")
        assert response.headers.get_list("cache-control") == ["max-age=5"]
        assert response.headers.get_list("content-security-policy") == ["sandbox"]


def test_an_answer_without_headers_gets_them():
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    start, _ = answer(SecurityHeaders(bare, cross_origin=True), {"type": "http", "path": "/x"})
    assert (b"x-frame-options", b"DENY") in start["headers"]


def test_what_is_no_request_goes_through_untouched():
    """Lifespan: there is no path to look at."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    everything = {**KEYED, "rate_limit": "1/day", "cors_origins": "*"}
    assert answer(protect(app, Settings.model_validate(everything)), {"type": "lifespan"}) == []
    assert answer(PrintablePaths(app), {"type": "lifespan"}) == []
    assert seen == ["lifespan"] * 2


# Pages from elsewhere

ORIGIN = "https://a.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,x-api-key,prefer,x-request-id,content-type",
}


def test_without_origins_there_is_no_cors():
    with client() as browser:
        assert browser.options("/similarity", headers=PREFLIGHT).status_code == 405
        response = browser.get("/model", headers={"Origin": ORIGIN})
        assert not any(name.startswith("access-control") for name in response.headers)


@pytest.mark.parametrize("origins", [f"https://b.example,{ORIGIN}", "*"])
def test_a_preflight_needs_no_key_and_is_not_counted(origins):
    with client(**KEYED, cors_origins=origins, rate_limit="1/day") as browser:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            headers = {**PREFLIGHT, "Access-Control-Request-Method": method}
            response = browser.options("/similarity", headers=headers)
            assert response.status_code == 200
            assert response.headers["access-control-allow-origin"] in {ORIGIN, "*"}
            assert method in response.headers["access-control-allow-methods"]
            assert_headers(response)
        assert browser.get("/model", headers=BEARER).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"Origin": "https://evil.example"},
        {"Access-Control-Request-Method": "PUT"},
        {"Access-Control-Request-Headers": "x-other"},
    ],
)
def test_a_preflight_that_is_refused_is_a_problem(change):
    with client(cors_origins=ORIGIN) as browser:
        response = browser.options("/similarity", headers={**PREFLIGHT, **change})
        assert "Disallowed CORS" in problem(response, 400, "cross-origin")["detail"]
        assert "access-control-allow-origin" not in response.headers
        assert "Origin" in response.headers["vary"]
        assert_headers(response)


def test_answers_can_be_read_by_the_pages_named_and_no_others():
    """Refusals too: a page must be able to read why, and when to come again."""
    with client(**KEYED, cors_origins=ORIGIN, rate_limit="2/day") as browser:
        for headers, expected in ((BEARER, 200), ({}, 401), (BEARER, 200), (BEARER, 429)):
            response = browser.get("/model", headers={**headers, "Origin": ORIGIN})
            assert response.status_code == expected
            assert response.headers["access-control-allow-origin"] == ORIGIN
            assert "access-control-allow-credentials" not in response.headers
            shown = {name.strip() for name in response.headers["access-control-expose-headers"].split(",")}
            assert shown >= {
                "X-Request-ID", "X-Model-Version", "Server-Timing", "Location", "Retry-After", "Content-Disposition"
            }  # fmt: skip
            assert "cross-origin-resource-policy" not in response.headers
        response = browser.get("/health/live", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in response.headers
