"""The three views as they look, over drawn photos: pictures for the README where SCREENSHOTS is set, else for nobody.

Each is at most 150 KB. The shipped bundle scores what training.coats drew, as `jaguar-train coats` does.
"""

import io
import os
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import DEFAULT, DESK, PHONE, url
from tests.reliability.harness import Server
from training.coats import draw_dataset

KEPT = Path(__file__).parent / "screenshots"
MOST_BYTES = 150_000
LOOKS = {
    "light": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone": {"color_scheme": "light", "viewport": PHONE, "device_scale_factor": 2, "is_mobile": True},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the competition's layout: test.csv and test/test/*.png."""
    out = tmp_path_factory.mktemp("drawn") / "set"
    draw_dataset(out, identities=5, photos=2, test=20, seed=3, workers=1)
    return out


@pytest.fixture(scope="module")
def shipped(drawn: Path, tmp_path_factory: pytest.TempPathFactory):
    server = Server(tmp_path_factory.mktemp("shipped"), DEFAULT, JAGUAR_IMAGE_ROOT=str(drawn)).start()
    yield server
    server.close()


@pytest.fixture(params=LOOKS)
def look(request) -> str:
    return request.param


@pytest.fixture
def page(look, visit, shipped):
    return visit(url(shipped), reduced_motion="reduce", **LOOKS[look])


def keep(page, name: str, tmp_path: Path, height: int | None = None) -> None:
    """The page from its head on, `height` CSS pixels of it or all; WebP, since a README is loaded over a network."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    scale = page.evaluate("devicePixelRatio")
    if height is not None:
        picture = picture.crop((0, 0, picture.width, min(picture.height, round(height * scale))))
    folder = KEPT if os.environ.get("SCREENSHOTS") else tmp_path
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.webp"
    picture.convert("RGB").save(path, quality=80, method=6)
    assert path.stat().st_size <= MOST_BYTES


def test_two_photos(page, look, tmp_path) -> None:
    page.get_by_role("button", name="Try two drawn ones").click()
    page.wait_for_selector("#heat-switch:not([disabled])")
    keep(page, f"two-{look}", tmp_path)


def test_folder(page, look, drawn, tmp_path) -> None:
    page.locator("#tab-folder").click()
    page.locator("#folder-drop input").nth(1).set_input_files(sorted((drawn / "test" / "test").glob("*.png")))
    page.wait_for_selector("#folder-result:not([hidden])")
    expect(page.locator("#ranks img[src]")).to_have_count(12)
    page.locator("#ranks-photo").evaluate("select => select.blur()")
    keep(page, f"folder-{look}", tmp_path, 1500)


def test_files(page, look, drawn, tmp_path) -> None:
    page.locator("#tab-files").click()
    for table in ("pairs.csv", "test.csv"):
        data = (drawn / "test.csv").read_bytes()
        if table == "pairs.csv":
            data = b"\n".join(line.partition(b",")[2] for line in data.splitlines()[:41])
        file = {"name": table, "mimeType": "text/csv", "buffer": data}
        page.locator("#csv-drop input").set_input_files(file)
        page.get_by_role("button", name="Score the table").click()
        expect(page.locator("#jobs .status").first).to_contain_text("Done")
    keep(page, f"files-{look}", tmp_path)
