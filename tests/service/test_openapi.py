"""The OpenAPI page is complete: every call, its problems and an example of each."""

ALL, KEYED = {"500"}, {"401", "429", "500"}
PHOTOS = KEYED | {"400", "408", "413", "415", "422", "503", "507"}
JOBS = KEYED | {"404", "507"}
# The answers of every call, besides its problems, and the problems.
CALLS = {
    ("post", "/similarity"): ("200", PHOTOS),
    ("post", "/similarity/explain"): ("200", PHOTOS | {"501"}),
    ("post", "/embed"): ("200", PHOTOS),
    ("post", "/similarity/batch"): ("200 202", PHOTOS),
    ("post", "/submission"): ("200 202", PHOTOS),
    ("get", "/jobs/{id}"): ("200", JOBS),
    ("delete", "/jobs/{id}"): ("204", JOBS),
    ("get", "/jobs/{id}/result"): ("200", JOBS | {"409"}),
    ("get", "/jobs/{id}/events"): ("200", JOBS),
    ("get", "/model"): ("200", KEYED),
    ("post", "/model/reload"): ("200", KEYED | {"403", "409"}),
    ("get", "/health/live"): ("200", ALL | {"503"}),
    ("get", "/health/ready"): ("200", ALL | {"503"}),
    ("get", "/metrics"): ("200", KEYED),
}
# Nothing that can be shown on a page: two words, a picture, a file, a stream.
WITHOUT_EXAMPLE = {"/health/live", "/health/ready", "/jobs/{id}/result", "/jobs/{id}/events"}
TABLES = {"/submission": True, "/similarity/batch": True, "/embed": False, "/similarity": False}


def test_every_call_has_an_example_and_its_problems(service):
    page = service().get("/openapi.json").json()
    calls = {(method, path): call for path, methods in page["paths"].items() for method, call in methods.items()}
    assert set(calls) == set(CALLS)
    for (method, path), (good, problems) in CALLS.items():
        answers = calls[method, path]["responses"]
        assert set(answers) == {*good.split(), *problems}, path
        for status in problems:
            [(media_type, content)] = answers[status]["content"].items()
            assert media_type == "application/problem+json"
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert {example["value"]["status"] for example in content["examples"].values()} == {int(status)}
        if method != "delete" and path not in WITHOUT_EXAMPLE:
            for status in good.split():
                assert any("example" in content for content in answers[status]["content"].values()), path
    refusals = {path: calls["post", path]["responses"]["422"]["content"][media_type] for path in TABLES}
    assert {path: "unknown-image" in content["examples"] for path, content in refusals.items()} == TABLES
    assert "Problem" in page["components"]["schemas"]


def test_the_page_is_the_same_each_time(service):
    client = service()
    assert client.get("/openapi.json").json() == client.get("/openapi.json").json()
