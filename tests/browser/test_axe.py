"""axe's rules, all of them, over every view, empty and filled, with its problems and its dialog: 0 violations."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import DESK, PHONE, url

LOOKS = {
    "light": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone": {"color_scheme": "light", "viewport": PHONE, "has_touch": True, "is_mobile": True},
    "dark phone": {"color_scheme": "dark", "viewport": PHONE, "has_touch": True, "is_mobile": True},
}


def check(page, where: str) -> None:
    page.wait_for_timeout(400)  # a colour in transition has the contrast of neither
    results = Axe().run(page)
    assert results.violations_count == 0, f"{where}: {results.generate_report()}"


@pytest.fixture(params=LOOKS)
def page(request, visit, site):
    return visit(url(site), reduced_motion="reduce", **LOOKS[request.param])


def test_two_photos(page, folder, tmp_path) -> None:
    check(page, "empty")
    page.locator("#pair input").nth(0).set_input_files(folder / "p1.png")
    page.locator("#pair input").nth(1).set_input_files(folder / "p2.png")
    page.wait_for_selector("#heat-switch:not([disabled])")
    check(page, "compared")
    (tmp_path / "letter.jpg").write_text("Dear jaguar,")
    page.locator("#pair input").nth(0).set_input_files(tmp_path / "letter.jpg")
    expect(page.locator("#two-problem .problem")).to_be_visible()
    check(page, "problem")


def test_folder(page, folder, tmp_path) -> None:
    page.locator("#tab-folder").click()
    check(page, "empty")
    (tmp_path / "letter.jpg").write_text("Dear jaguar,")
    page.locator("#folder-drop input").nth(1).set_input_files([*sorted(folder.glob("p*.png")), tmp_path / "letter.jpg"])
    page.wait_for_selector("#folder-result:not([hidden])")
    check(page, "compared")


def test_files(page, folder, tmp_path) -> None:
    page.locator("#tab-files").click()
    check(page, "empty")
    table = tmp_path / "pairs.csv"
    table.write_text("query_image,gallery_image\np1.png,p2.png\n")
    page.locator("#csv-drop input").set_input_files(table)
    page.locator("#images-drop input").first.set_input_files([folder / "p1.png", folder / "p2.png"])
    page.get_by_role("button", name="Score the table").click()
    expect(page.locator("#jobs .status")).to_contain_text("Done")
    page.locator("#images-drop input").first.set_input_files([folder / "p1.png"])
    page.get_by_role("button", name="Score the table").click()
    expect(page.locator("#files-problem .problem")).to_be_visible()
    check(page, "a job and a problem")


@pytest.mark.parametrize("look", LOOKS)
def test_key(visit, start, look) -> None:
    page = visit(url(start(JAGUAR_API_KEYS="sesame", key="sesame")), **LOOKS[look])
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page, "dialog")
