"""Case 2: files that are no photos, and photos of odd sizes."""

import numpy as np
import pytest
from PIL import Image

from tests.reliability.pictures import encoded, noise, photo, tiny_answer

SIZE = (48, 32)
GOOD = [encoded(Image.fromarray(noise(seed, SIZE))) for seed in (1, 2)]
DAMAGED = {
    "truncated.jpg": (photo(3)[:-400], 422),
    "half.jpg": (photo(3)[: len(photo(3)) // 2], 422),
    "truncated.png": (photo(3, kind="PNG")[:-60], 422),
    "truncated.webp": (photo(3, kind="WEBP")[:-300], 422),
    "head.png": (photo(3, kind="PNG")[:20], 422),
    "empty.jpg": (b"", 422),
    "page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", 415),
    "noise.jpg": (bytes(range(256)) * 40, 415),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_case_02_damaged_among_good_ones(server, seen, name):
    data, status = DAMAGED[name]
    bad, good = (name, data), [(f"good{place}.png", one) for place, one in enumerate(GOOD)]
    table = f"query_image,gallery_image\ngood0.png,good1.png\ngood1.png,{name}\n".encode()
    calls = [
        ("/embed", [("images", bad)]),
        ("/embed", [("images", good[0]), ("images", bad), ("images", good[1])]),
        ("/similarity", [("query_image", good[0]), ("gallery_image", bad)]),
        ("/similarity", [("query_image", bad), ("gallery_image", good[0])]),
        ("/similarity/batch", [("pairs", ("p.csv", table)), *(("images", one) for one in (*good, bad))]),
    ]
    for path, files in calls:
        response = server.post(path, files=files)
        assert response.status_code == status, (path, response.text)
        assert repr(name) in response.json()["detail"], response.text
    neighbours = server.post("/embed", files=[("images", one) for one in good])
    embeddings = [entry["embedding"] for entry in neighbours.json()["embeddings"]]
    wanted = [tiny_answer(noise(seed, SIZE)) for seed in (1, 2)]
    np.testing.assert_allclose(embeddings, wanted, atol=1e-5)
    seen(f"damaged: {status}, named, neighbours unharmed")


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_case_02_valid_and_odd(server, seen, size, kind):
    """One colour: whatever is done to its size, the network sees that colour everywhere."""
    data = encoded(Image.new("RGB", size, (90, 90, 90)), kind)
    response = server.post("/embed", files=[("images", ("odd", data))])
    assert response.status_code == 200
    flat = np.full((*SIZE[::-1], 3), 90, dtype=np.uint8)
    np.testing.assert_allclose(response.json()["embeddings"][0]["embedding"], tiny_answer(flat), atol=1e-5)
    seen("1 x 1, 1 x 20000, 20000 x 1: 200, the right embedding")
