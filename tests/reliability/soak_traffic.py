"""What the soak sends: calls of all kinds, right and wrong ones, each with the answers that it may get."""

import io
import random
import socket
import struct
import time
import zipfile
from collections.abc import Callable
from functools import cached_property

import numpy as np

from tests.reliability import wire
from tests.reliability.harness import Server
from tests.reliability.pictures import black_png, photo

# How often each kind is sent, of all together.
WEIGHTS = {
    "similarity": 20,
    "embed": 12,
    "embed_npy": 6,
    "batch": 6,
    "submission": 4,
    "job": 3,
    "model": 4,
    "health": 6,
    "metrics": 2,
    "damaged": 8,
    "huge": 4,
    "no_picture": 4,
    "wrong_table": 6,
    "unsafe_name": 4,
    "bomb": 2,
    "too_large": 2,
    "no_multipart": 3,
    "not_found": 2,
    "leaves": 6,
}


class Traffic:
    """Sends one call after the other, by chance. `send` returns what was sent, the status, and whether it is right."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self._chance = random.Random(seed)
        self._sent = 0
        self._photos = [photo(number, (900, 700)) for number in range(8)]
        self._seed = seed
        self._kinds, self._weights = list(WEIGHTS), list(WEIGHTS.values())

    def send(self) -> tuple[str, int, bool]:
        kind = self._chance.choices(self._kinds, self._weights)[0]
        call: Callable[[], tuple[int, set[int]]] = getattr(self, f"_{kind}")
        status, wanted = call()
        return kind, status, status in wanted

    def _photo(self) -> tuple[str, bytes]:
        """Half of the photos were sent before; the others end in bytes of their own, so that no cache knows them."""
        data = self._chance.choice(self._photos)
        self._sent += 1
        new = self._chance.random() < 0.5
        return f"{self._sent}.jpg", data + struct.pack("<QQ", self._seed, self._sent) if new else data

    def _post(self, path: str, files: list, **options) -> int:
        return self.server.post(path, files=files, **options).status_code

    def _similarity(self) -> tuple[int, set[int]]:
        return self._post("/similarity", [("query_image", self._photo()), ("gallery_image", self._photo())]), {200}

    def _embed(self) -> tuple[int, set[int]]:
        return self._post("/embed", [("images", self._photo()) for _ in range(self._chance.randint(1, 4))]), {200}

    def _embed_npy(self) -> tuple[int, set[int]]:
        response = self.server.post(
            "/embed", files=[("images", self._photo())], headers={"Accept": "application/x-npy"}
        )
        rows = np.load(io.BytesIO(response.content))
        return response.status_code if rows.shape == (1, 512) else 0, {200}

    def _table(self, rows: int, photos: int = 4) -> tuple[str, list]:
        named = [self._photo() for _ in range(photos)]
        names = [name for name, _ in named]
        lines = (f"{row},{self._chance.choice(names)},{self._chance.choice(names)}" for row in range(rows))
        return "row_id,query_image,gallery_image\n" + "\n".join(lines) + "\n", named

    def _batch(self) -> tuple[int, set[int]]:
        table, named = self._table(self._chance.randint(1, 3_000))
        return self._post("/similarity/batch", [("pairs", ("p.csv", table)), *(("images", one) for one in named)]), {
            200
        }

    def _submission(self) -> tuple[int, set[int]]:
        table, named = self._table(2_000)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in named:
                archive.writestr(f"test/test/{name}", data)
        files = [("test_csv", ("t.csv", table)), ("images", ("t.zip", buffer.getvalue()))]
        return self._post("/submission", files), {200}

    def _job(self) -> tuple[int, set[int]]:
        """Handed in, followed to its end, fetched, deleted; some are deleted at once."""
        table, named = self._table(500)
        files = [("pairs", ("p.csv", table)), *(("images", one) for one in named)]
        taken = self.server.post("/similarity/batch", files=files, headers={"Prefer": "respond-async"})
        if taken.status_code != 202:
            return taken.status_code, {202}
        place = taken.headers["location"]
        if self._chance.random() < 0.7:
            deadline = time.monotonic() + 60
            while self.server.get(place).json()["state"] in {"queued", "running"}:
                if time.monotonic() > deadline:
                    return 0, {204}
                time.sleep(0.1)
            if (status := self.server.get(f"{place}/result").status_code) != 200:
                return status, {200}
        return self.server.request("DELETE", place).status_code, {204}

    def _model(self) -> tuple[int, set[int]]:
        return self.server.get("/model").status_code, {200}

    def _health(self) -> tuple[int, set[int]]:
        return self.server.get(self._chance.choice(["/health/live", "/health/ready"])).status_code, {200}

    def _metrics(self) -> tuple[int, set[int]]:
        return self.server.get("/metrics").status_code, {200}

    def _damaged(self) -> tuple[int, set[int]]:
        name, data = self._photo()
        cut = data[: self._chance.randint(0, len(data) * 9 // 10)]
        return self._post("/embed", [("images", self._photo()), ("images", (name, cut))]), {415, 422}

    @cached_property
    def _huge_files(self) -> list[bytes]:
        return [black_png(30_000, 30_000), black_png(9_000, 9_000)]

    def _huge(self) -> tuple[int, set[int]]:
        return self._post("/embed", [("images", ("h.png", self._chance.choice(self._huge_files)))]), {422}

    def _no_picture(self) -> tuple[int, set[int]]:
        return self._post("/embed", [("images", ("p.jpg", b"<html>" + self._chance.randbytes(300)))]), {415}

    def _wrong_table(self) -> tuple[int, set[int]]:
        table, named = self._table(50)
        wrong = self._chance.choice(
            [table + "0,a,b\n", table[: len(table) // 2], "a,b\n1,2\n", "", table.replace(",", ";")]
        )
        files = [("test_csv", ("t.csv", wrong)), *(("images", one) for one in named)]
        return self._post("/submission", files), {200, 422} if wrong == table[: len(table) // 2] else {422}

    def _unsafe_name(self) -> tuple[int, set[int]]:
        name = self._chance.choice(["../../etc/passwd", "/etc/passwd", "a\0b.jpg"])
        table = f"query_image,gallery_image\n{name},{name}\n"
        return self._post("/similarity/batch", [("pairs", ("p.csv", table)), ("images", self._photo())]), {422}

    @cached_property
    def _bomb_zip(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", bytes(60 * 10**6))
        return buffer.getvalue()

    def _bomb(self) -> tuple[int, set[int]]:
        table = "query_image,gallery_image\na.png,a.png\n"
        files = [("pairs", ("p.csv", table)), ("images", ("b.zip", self._bomb_zip))]
        return self._post("/similarity/batch", files), {413}

    def _too_large(self) -> tuple[int, set[int]]:
        answer = wire.exchange(self.server.port, wire.head("/embed", "Content-Length: 900000000"))
        self.server.look_at(answer.status, answer.headers, answer.body)
        return answer.status, {413}

    def _no_multipart(self) -> tuple[int, set[int]]:
        headers = {"content-type": self._chance.choice(["application/json", "multipart/form-data", "text/plain"])}
        response = self.server.post("/similarity", content=self._chance.randbytes(500), headers=headers)
        return response.status_code, {400, 415}

    def _not_found(self) -> tuple[int, set[int]]:
        return self.server.get("/" + self._chance.choice(["nothing", "jobs/AAAAAAAAAAAAAAAAAAAAAA"])).status_code, {404}

    def _leaves(self) -> tuple[int, set[int]]:
        """Goes in the middle of its body or right after it; nobody sees a status."""
        request = wire.request("/embed", [("images", *self._photo()), ("images", *self._photo())])
        with wire.connect(self.server.port) as connection:
            connection.sendall(request[: int(len(request) * self._chance.choice([0.2, 0.9, 1]))])
            time.sleep(self._chance.uniform(0, 0.02))
            if self._chance.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return 0, {0}
