"""What `/metrics` tells, read by Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

PAIRS = b"query_image,gallery_image\na.png,b.png\n"


def figures(client: TestClient) -> dict[str, float]:
    """Every figure by its name and labels, as it is written: `name{label="value"}`."""
    response = client.get("/metrics", headers={"x-api-key": "key"})
    assert response.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_service_at_rest(service):
    client = service()
    version = client.get("/model").json()["model_version"]
    told = figures(client)
    for name in (
        "jaguar_inflight_requests", "jaguar_jobs_waiting", "jaguar_jobs_running", "jaguar_images_decoded_total",
        "jaguar_images_embedded_total", "jaguar_cache_hits_total", "jaguar_cache_misses_total",
        "jaguar_cache_failures_total",
    ):  # fmt: skip
        assert told[name] == 0, name
    assert told[f"jaguar_model_info{{model_version={version}}}"] == 1
    assert not any(name.startswith("jaguar_phase_seconds_count") for name in told)


def test_photos_and_phases_are_counted_and_known_photos_are_hits(service, photo):
    client = service()
    files = {"query_image": photo(1), "gallery_image": photo(2)}
    for _ in range(2):
        assert client.post("/similarity", files=files).status_code == 200
    told = figures(client)
    assert told["jaguar_images_decoded_total"] == told["jaguar_images_embedded_total"] == 2
    assert (told["jaguar_cache_hits_total"], told["jaguar_cache_misses_total"]) == (2, 2)
    assert told["jaguar_inflight_requests"] == 0
    for phase in ("admission", "upload", "queue", "decode", "total"):
        assert told[f"jaguar_phase_seconds_count{{phase={phase}}}"] == 2
    assert told["jaguar_phase_seconds_count{phase=forward}"] == 1  # the second time there was none
    assert told["http_requests_total{handler=/similarity}{method=POST}{status=2xx}"] == 2


def test_without_a_cache_nothing_is_told_of_it(service, photo):
    client = service(cache="off")
    for _ in range(2):
        client.post("/embed", files={"images": photo(1)})
    told = figures(client)
    assert told["jaguar_images_embedded_total"] == 2
    assert not any("cache" in name for name in told)


def test_jobs_are_told(service, photo):
    client = service()
    parts = [("pairs", PAIRS), ("images", ("a.png", photo(1))), ("images", ("b.png", photo(2)))]
    accepted = client.post("/similarity/batch", files=parts, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    while client.get(accepted.headers["location"]).json()["state"] != "done":
        pass
    told = figures(client)
    assert told["jaguar_images_embedded_total"] == 2
    assert told["jaguar_jobs_running"] + told["jaguar_jobs_waiting"] <= 1  # as of a moment ago


def test_who_is_kept_out_is_counted(service):
    client = service(api_keys=("key",), rate_limit="6/hour")
    assert [client.get("/model").status_code for _ in range(8)] == [401] * 6 + [429] * 2
    assert client.post("/model/reload", headers={"x-api-key": "key"}).status_code == 403
    told = figures(client)
    assert [told[f"jaguar_refused_requests_total{{status={status}}}"] for status in (401, 403, 429)] == [6, 1, 2]


def test_errors_are_counted(service):
    client = service(max_images_body_bytes=10)
    assert client.post("/embed", files={"images": b"x" * 100}).status_code == 413
    assert client.get("/nothing").status_code == 404
    told = figures(client)
    assert told["http_requests_total{handler=/embed}{method=POST}{status=4xx}"] == 1
    assert told["http_requests_total{handler=none}{method=GET}{status=4xx}"] == 1


def test_two_services_in_one_process_count_for_themselves(service, photo):
    first, second = service(), service()
    first.post("/embed", files=[("images", photo(seed)) for seed in range(3)])
    assert [figures(client)["jaguar_images_embedded_total"] for client in (first, second)] == [3, 0]
