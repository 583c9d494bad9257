"""`/model`, `/health` and `/metrics`."""


def test_model_is_the_manifest_in_short(service, tiny_bundle):
    response = service().get("/model")
    body = response.json()
    assert response.headers["x-model-version"] == body.pop("model_version")
    assert body["preprocess"].pop("size") == [32, 48]
    assert body["preprocess"]["background"] == [200, 120, 40]
    del body["preprocess"]
    assert body == {
        "name": "tiny",
        "created": "2026-11-24T00:00:00Z",
        "backbone": "tiny",
        "embedding_dim": 512,
        "pooling": "avg",
        "metrics": {"id_map": 0.5},
        "calibrated": False,
        "runtime": "onnx",
        "precision": "float32",
        "calibration": None,
        "prior": None,
    }


def test_health(service):
    client = service()
    version = client.get("/model").json()["model_version"]
    assert client.get("/health/live?now=1").json() == {"status": "ok", "model_version": version}
    assert client.get("/health/ready").json() == {"status": "ok", "model_version": version}


def test_metrics_of_two_services_in_one_process(service, photo, embedded):
    first, second = service(), service()
    first.post("/embed", files=[("images", photo(seed)) for seed in range(3)])
    assert (embedded(first), embedded(second)) == (3, 0)
    response = first.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'http_requests_total{handler="/embed",method="POST",status="2xx"} 1.0' in response.text
