"""`/similarity` and `/embed`: values by another road, names, order, and what is refused."""

import io

import numpy as np
import pytest


def test_similarity_is_that_of_the_embeddings(service, photo, tiny_embedding):
    client = service()
    a, b = photo(1), photo(2)
    response = client.post("/similarity", files={"query_image": ("a.png", a), "gallery_image": ("b.png", b)})
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"similarity", "cosine", "probability", "verdict", "model_version"}
    cosine = tiny_embedding(a) @ tiny_embedding(b)
    assert body["cosine"] == pytest.approx(cosine, abs=1e-6)
    assert body["similarity"] == pytest.approx((cosine + 1) / 2, abs=1e-6)
    assert body["probability"] is None
    assert body["verdict"] is None
    assert response.headers["x-model-version"] == body["model_version"]


def test_similarity_is_symmetric_and_full_with_itself(service, photo):
    client = service()
    ask = lambda query, gallery: client.post(  # noqa: E731
        "/similarity", files={"query_image": ("a", query), "gallery_image": ("b", gallery)}
    ).json()["similarity"]
    assert ask(photo(1), photo(2)) == ask(photo(2), photo(1))
    assert ask(photo(3), photo(3)) == pytest.approx(1.0, abs=1e-7)


def test_embeddings_come_in_order_with_their_names(service, photo, tiny_embedding):
    client = service()
    sent = [("b/Größe.png", photo(5)), ("a.png", photo(6)), ("a.png", photo(5))]
    response = client.post("/embed", files=[("images", entry) for entry in sent])
    body = response.json()
    assert [entry["filename"] for entry in body["embeddings"]] == [name for name, _ in sent]
    vectors = np.array([entry["embedding"] for entry in body["embeddings"]])
    np.testing.assert_allclose(vectors, [tiny_embedding(data) for _, data in sent], atol=1e-6)
    assert response.headers["x-model-version"] == body["model_version"]


@pytest.mark.parametrize("accept", ["application/x-npy", "text/html, application/X-NPY;q=0.9"])
def test_embeddings_as_npy(service, photo, tiny_embedding, accept):
    client = service()
    files = [("images", (str(seed), photo(seed))) for seed in range(5)]
    response = client.post("/embed", files=files, headers={"Accept": accept})
    assert response.headers["content-type"] == "application/x-npy"
    assert response.headers["x-model-version"] == client.get("/model").json()["model_version"]
    vectors = np.load(io.BytesIO(response.content), allow_pickle=False)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [tiny_embedding(photo(seed)) for seed in range(5)], atol=1e-6)


def test_similarity_equals_that_of_the_embed_vectors(service, photo):
    client = service()
    vectors = [
        np.array(entry["embedding"])
        for entry in client.post("/embed", files=[("images", ("a", photo(1))), ("images", ("b", photo(2)))]).json()[
            "embeddings"
        ]
    ]
    body = client.post("/similarity", files={"query_image": photo(1), "gallery_image": photo(2)}).json()
    assert body["similarity"] == pytest.approx((vectors[0] @ vectors[1] + 1) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        (b"", 422, "unreadable-image"),
        (b"<html>not a photo</html>", 415, "unsupported-format"),
        (b"GIF89a" + bytes(40), 415, "unsupported-format"),
        (b"\xff\xd8\xff\xe0 broken", 422, "unreadable-image"),
    ],
)
def test_photo_that_cannot_be_read_is_named(service, photo, assert_problem, data, status, slug):
    client = service()
    files = {"query_image": ("ok.png", photo(1)), "gallery_image": ("bad.jpg", data)}
    assert "gallery_image 'bad.jpg'" in assert_problem(client.post("/similarity", files=files), status, slug)["detail"]
    files = [("images", (f"ok{seed}.png", photo(seed))) for seed in range(20)] + [("images", ("bad.jpg", data))]
    assert "'bad.jpg'" in assert_problem(client.post("/embed", files=files), status, slug)["detail"]


def test_the_first_bad_photo_in_order_is_the_one_named(service, photo, assert_problem):
    sent = [("images", (f"{place}.png", photo(1) if place % 3 else photo(1)[:100])) for place in range(1, 12)]
    assert "'3.png'" in assert_problem(service().post("/embed", files=sent), 422, "unreadable-image")["detail"]


def test_clients_words_are_escaped_and_cut(service, photo, assert_problem):
    name = "x" * 500 + "\x1b[31m"
    response = service().post("/embed", files=[("images", (name, b"nothing"))])
    detail = assert_problem(response, 415, "unsupported-format")["detail"]
    assert "\x1b" not in detail
    assert len(detail) < 300


def test_zip_is_no_photo(service, photo, zipped, assert_problem):
    response = service().post("/embed", files=[("images", ("all.zip", zipped({"a.png": photo(1)})))])
    assert_problem(response, 415, "unsupported-format")


@pytest.mark.parametrize(
    ("call", "files", "finding"),
    [
        ("/similarity", [("query_image", b"1")], "gallery_image is missing"),
        (
            "/similarity",
            [("query_image", b"1"), ("gallery_image", b"2"), ("gallery_image", b"3")],
            "gallery_image came 2 times",
        ),
        (
            "/similarity",
            [("query_image", b"1"), ("gallery_image", b"2"), ("gallery", b"3")],
            "'gallery' is no part of this call",
        ),
        ("/embed", [("image", b"1"), ("images", b"2")], "'image' is no part of this call"),
        ("/embed?fast=1", [("images", b"2")], "'fast' is no query parameter of this call"),
        ("/submission?mirror=1", [("test_csv", b"2")], "'mirror' is no query parameter"),
    ],
)
def test_what_a_call_does_not_know_is_refused(service, assert_problem, call, files, finding):
    body = assert_problem(service().post(call, files=files), 422, "invalid-request")
    assert any(finding in problem for problem in body["problems"])


def test_text_where_a_file_belongs(service, photo, assert_problem):
    response = service().post("/similarity", files={"query_image": photo(1)}, data={"gallery_image": "photo.png"})
    assert assert_problem(response, 422, "invalid-request")["problems"] == [
        "gallery_image must be a file: a part with a filename"
    ]


@pytest.mark.parametrize("call", ["/similarity", "/embed", "/similarity/batch", "/submission"])
def test_body_that_is_no_form(service, assert_problem, call):
    client = service()
    assert_problem(client.post(call, json={"a": 1}), 415, "unsupported-media-type")
    assert_problem(client.post(call, data={"images": "x"}), 415, "unsupported-media-type")
    assert_problem(client.post(call), 415, "unsupported-media-type")
    broken = {"content-type": "multipart/form-data"}
    assert_problem(client.post(call, content=b"x", headers=broken), 400, "invalid-body")
    broken = {"content-type": "multipart/form-data; boundary=b"}
    assert_problem(client.post(call, content=b"no boundary in sight", headers=broken), 400, "invalid-body")
