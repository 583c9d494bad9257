"""Without a mouse: every view from end to end, and a focus that is always to be seen."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import PHONE, url

FOCUSED = """() => {
    const focused = document.activeElement;
    return focused === document.body ? "" : focused.id || focused.getAttribute("aria-label") || focused.textContent;
}"""
# The outline may be drawn by the label that stands for a hidden input.
OUTLINED = """() => {
    const focused = document.activeElement;
    const drawn = [focused, focused.closest("label")].filter(Boolean);
    return drawn.map((one) => getComputedStyle(one)).some(
        (style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
}"""


def stops(page, most: int = 60) -> list[str]:
    """Where Tab leads, until it leaves the page; everywhere the focus is drawn."""
    found = []
    for _ in range(most):
        page.keyboard.press("Tab")
        here = page.evaluate(FOCUSED)
        if not here or here in found:
            return found
        assert page.evaluate(OUTLINED), here
        found.append(here)
    raise AssertionError(found)


def test_tab_reaches_everything_in_reading_order(visit, site, folder) -> None:
    page = visit(url(site))
    head, two = ["Skip to the content", "theme-button", "tab-two"], ["two-samples", "Photo A: choose a file"]
    assert stops(page) == [*head, *two, "Photo B: choose a file", "The calls behind this page"]
    page.locator("#pair input").nth(0).set_input_files(folder / "p1.png")
    page.locator("#pair input").nth(1).set_input_files(folder / "p2.png")
    page.wait_for_selector("#heat-switch:not([disabled])")
    page.locator("#theme-button").focus()
    photos = [
        "Photo A: p1.png. Choose another one", "Remove photo A", "Photo B: p2.png. Choose another one",
        "Remove photo B",
    ]  # fmt: skip
    heat = ["heat-switch", "heat-opacity", "The calls behind this page"]
    assert stops(page) == ["tab-two", "two-samples", *photos, *heat]


def test_two_photos_with_the_keys_alone(visit, site, folder) -> None:
    page = visit(url(site))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")  # the drawn photos
    for name in ("p1.png", "p2.png"):
        page.keyboard.press("Tab")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files(folder / name)
        page.keyboard.press("Tab")  # Remove
    expect(page.locator("#score-number")).to_have_text(re.compile(r"0\.\d{4}"))
    page.wait_for_selector("#heat-switch:not([disabled])")
    page.keyboard.press("Tab")
    expect(page.locator("#heat-switch")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#heat-switch")).to_have_attribute("aria-checked", "false")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    expect(page.locator("#heat-opacity")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#heat-opacity")).to_have_value("56")


def test_tabs_are_moved_between_with_arrows(visit, site) -> None:
    page = visit(url(site))
    page.locator("#tab-two").focus()
    for key, view in (("ArrowRight", "folder"), ("ArrowRight", "files"), ("ArrowRight", "two"), ("ArrowLeft", "files"),
                      ("Home", "two"), ("End", "files")):  # fmt: skip
        page.keyboard.press(key)
        expect(page.locator(f"#tab-{view}")).to_be_focused()
        expect(page.locator(f"#tab-{view}")).to_have_attribute("aria-selected", "true")
        expect(page.locator("[role=tab][tabindex='-1']")).to_have_count(2)
        expect(page.locator(f"#view-{view}")).to_be_visible()
        expect(page.locator("[role=tabpanel]:visible")).to_have_count(1)
        assert page.evaluate("location.hash") == f"#{view}"
    page.reload()
    expect(page.locator("#view-files")).to_be_visible()


def test_a_folder_with_the_keys_alone(visit, site, folder) -> None:
    page = visit(url(site), "folder")
    page.locator("#tab-folder").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(sorted(folder.glob("p*.png")))
    page.wait_for_selector("#folder-result:not([hidden])")
    for place in ("Start over", "order", "matrix", "compare", "csv"):
        page.keyboard.press("Tab")
        assert page.evaluate(OUTLINED), place
    expect(page.locator("#folder-csv")).to_be_focused()
    with page.expect_download():
        page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#ranks-photo")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#tab-two")).to_be_focused()


def test_a_table_with_the_keys_alone(visit, site, folder, tmp_path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("query_image,gallery_image\np1.png,p2.png\n")
    page = visit(url(site), "files")
    page.locator("#tab-files").focus()
    for files in ([table], None, [folder / "p1.png", folder / "p2.png"], None):
        page.keyboard.press("Tab")
        if files:
            with page.expect_file_chooser() as chooser:
                page.keyboard.press("Space")
            chooser.value.set_files(files)
    page.keyboard.press("Tab")
    expect(page.locator("#files-start")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#jobs .status")).to_contain_text("Done")
    page.keyboard.press("Tab")
    with page.expect_download():
        page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#jobs .job")).to_have_count(0)


def test_dark_is_chosen_and_kept(visit, site) -> None:
    page = visit(url(site), color_scheme="light")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    button = page.locator("#theme-button")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(paper) != light
    page.reload()
    expect(button).to_have_attribute("aria-pressed", "true")
    button.press("Space")
    assert page.evaluate(paper) == light
    assert page.evaluate("localStorage.length") == 0  # what the system says anyway is not kept
    page.emulate_media(color_scheme="dark")
    expect(button).to_have_attribute("aria-pressed", "true")


def test_nothing_moves_for_those_who_ask_for_it(visit, site) -> None:
    page = visit(url(site), reduced_motion="reduce")
    slow = """[...document.querySelectorAll("*")].filter((one) =>
        getComputedStyle(one).transitionDuration.split(",").some((time) => parseFloat(time) > 0)).length"""
    assert page.evaluate(slow) == 0


def test_no_view_is_wider_than_a_narrow_screen(visit, site, folder) -> None:
    """320 pixels: what 1280 are at 400 % zoom (WCAG 1.4.10)."""
    page = visit(url(site), viewport={**PHONE, "width": 320})
    page.locator("#pair input").nth(0).set_input_files(folder / "p1.png")
    page.locator("#pair input").nth(1).set_input_files(folder / "p2.png")
    page.wait_for_selector("#heat-switch:not([disabled])")
    page.locator("#folder-drop input").nth(1).set_input_files(sorted(folder.glob("p*.png")))
    for view in ("two", "folder", "files"):
        page.locator(f"#tab-{view}").click()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, view
