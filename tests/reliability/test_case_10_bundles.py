"""Case 10: bundles that cannot be served, at the start and while another one is."""

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.reliability.bundles import SPOILED, order, save_turned
from tests.reliability.harness import Server, wait_until
from tests.reliability.pictures import encoded, noise, tiny_answer

ADMIN = {"x-api-key": "the-admins-key"}
SIZE, SEEDS = (48, 32), range(300, 306)


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of the test's own, good so far."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "store" / "mine"))


def again(source: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)


def test_case_10_at_the_start(servers, tiny_bundle, tmp_path, seen):
    """All at the same time: each ends by itself, with one line."""
    started: dict[str, Server] = {}
    for name, (spoil, _) in SPOILED.items():
        folder = Path(shutil.copytree(tiny_bundle, tmp_path / name.replace(" ", "-") / "mine"))
        spoil(folder)
        started[name] = servers(folder, ready=False)
        started[name].spawn()
    statuses = set()
    for name, server in started.items():
        statuses.add(server.process.wait(60))
        [line] = server.log.read_text().splitlines()
        assert line.startswith("jaguar-reid: "), line
        assert SPOILED[name][1] in line, line
    assert list(tmp_path.rglob("unpickled")) == []
    seen(f"{len(SPOILED)} spoiled bundles ({', '.join(SPOILED)}): exit {sorted(statuses)}, one line each")
    assert 0 not in statuses


def test_case_10_hot_swap_refused(servers, server, tiny_bundle, folder, seen):
    assert server.post("/model/reload").status_code == 403, "no admin key is set here"
    server = servers(folder, JAGUAR_ADMIN_KEY=ADMIN["x-api-key"])
    assert server.post("/model/reload").status_code == 401
    assert server.post("/model/reload", headers={"x-api-key": "another"}).status_code == 401
    before = server.similarity().json()
    for name, (spoil, words) in SPOILED.items():
        again(tiny_bundle, folder)
        spoil(folder)
        response = server.post("/model/reload", headers=ADMIN)
        assert response.status_code == 409, (name, response.text)
        assert response.json()["type"].endswith(":bundle-refused")
        assert words in response.json()["detail"], response.text
        assert server.similarity().json() == before
        logged = server.log.read_text().count("\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda logged=logged: server.log.read_text().count("\n") > logged, 10)
        assert server.similarity().json() == before
    assert not (folder.parent / "unpickled").exists()
    again(tiny_bundle, folder)
    assert server.post("/model/reload", headers=ADMIN).status_code == 200
    seen(f"hot swap to each of {len(SPOILED)}: 409, on SIGHUP a line in the log; the former serves on")


class Asker:
    """Asks for several photos at a time for as long as it may, and keeps every answer."""

    def __init__(self, server: Server) -> None:
        self.server, self.over = server, Event()
        self.answers: list[httpx2.Response] = []

    def ask(self) -> None:
        files = [("images", (f"{seed}.png", encoded(Image.fromarray(noise(seed, SIZE))))) for seed in SEEDS]
        while not self.over.is_set():
            self.answers.append(self.server.post("/embed", files=files))


@pytest.mark.parametrize("cache", ["", "off"], ids=["cache", "no cache"])
def test_case_10_hot_swap_under_load(servers, folder, cache, full, seen):
    """Every answer is of one version, from its header to its last embedding. By POST and by SIGHUP in turn."""
    server = servers(folder, JAGUAR_ADMIN_KEY=ADMIN["x-api-key"], JAGUAR_CACHE=cache)
    orders = {server.get("/model").json()["model_version"]: np.arange(len(order(0)))}
    asker = Asker(server)
    with ThreadPoolExecutor(4) as pool:
        askers = [pool.submit(asker.ask) for _ in range(4)]
        try:
            for seed in range(1, 25 if full else 5):
                save_turned(folder, seed)
                former = server.get("/model").json()["model_version"]
                if seed % 2:
                    assert server.post("/model/reload", headers=ADMIN).status_code == 200
                else:
                    server.process.send_signal(signal.SIGHUP)
                    wait_until(lambda former=former: server.get("/model").json()["model_version"] != former, 10)
                orders[server.get("/model").json()["model_version"]] = order(seed)
        finally:
            asker.over.set()
        assert [one.result() for one in askers] == [None] * 4
    assert {answer.status_code for answer in asker.answers} == {200}
    plain = np.array([tiny_answer(noise(seed, SIZE)) for seed in SEEDS])
    found = {}
    for answer in asker.answers:
        body = answer.json()
        version = body["model_version"]
        assert answer.headers["x-model-version"] == version
        embeddings = [entry["embedding"] for entry in body["embeddings"]]
        np.testing.assert_allclose(embeddings, plain[:, orders[version]], atol=1e-5)
        found[version] = found.get(version, 0) + 1
    seen(f"{len(orders) - 1} swaps under load: {len(asker.answers)} answers of {len(found)} versions, none mixed")
    assert len(found) >= 2
