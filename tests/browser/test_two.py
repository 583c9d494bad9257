"""The view "Two photos": a journey, and what is over the photos."""

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from app.reid.overlay import diverging
from tests.browser.conftest import layout_shift, url

READY = "#heat-switch:not([disabled])"


def choose(page, *paths) -> None:
    for slot, path in zip(page.locator("#pair input").all(), paths, strict=False):
        slot.set_input_files(path)


def asked(server, a, b, path="/similarity"):
    files = {"query_image": (a.name, a.read_bytes()), "gallery_image": (b.name, b.read_bytes())}
    return server.post(path, files=files).json()


def pixel(page, slot: int, x: float, y: float) -> list[int]:
    """The colour of a heat map, at a share of its width and height."""
    read = "(map, [x, y]) => [...map.getContext('2d').getImageData(x * map.width, y * map.height, 1, 1).data]"
    return page.locator("canvas.map").nth(slot).evaluate(read, [x, y])


def test_two_photos_are_compared_as_soon_as_they_are_there(visit, site, folder) -> None:
    page = visit(url(site))
    a, b = folder / "p1.png", folder / "p2.png"
    choose(page, a)
    expect(page.locator("#score-words")).to_contain_text("Photo B is still missing")
    choose(page, a, b)
    page.wait_for_selector(READY)
    answer = asked(site, a, b)
    expect(page.locator("#score-number")).to_have_text(f"{answer['similarity']:.4f}")
    meter = page.locator("#score-meter")
    assert float(meter.get_attribute("aria-valuenow")) == pytest.approx(answer["similarity"], abs=1e-9)
    words = page.locator("#score-words")
    expect(words).to_contain_text("not a probability")
    expect(words).to_contain_text("look at both photos before you decide")
    expect(page.locator("#score-fine")).to_contain_text(answer["model_version"])
    expect(page.locator("#score-fine")).to_contain_text(" ms in all")
    expect(page.locator("#announcer")).to_have_text(f"Similarity {answer['similarity']:.4f}. "
                                                    "The model is not calibrated: this is no probability.")  # fmt: skip


def test_nothing_moves_while_a_score_arrives(visit, site, folder) -> None:
    page = visit(url(site))
    choose(page, folder / "p1.png", folder / "p2.png")
    page.wait_for_selector(READY)
    assert layout_shift(page) < 0.01


def test_heat_map_has_the_services_numbers_in_its_colours(visit, site, folder) -> None:
    page = visit(url(site))
    a, b = folder / "p3.png", folder / "p4.png"
    choose(page, a, b)
    page.wait_for_selector(READY)
    told = asked(site, a, b, "/similarity/explain?links=5")
    grids = [np.array(told[photo]["grid"]) for photo in ("query", "gallery")]
    largest = max(np.abs(grid).max() for grid in grids)
    for slot, grid in enumerate(grids):
        rows, columns = grid.shape
        for row in range(rows):
            for column in range(columns):
                seen = pixel(page, slot, (column + 0.5) / columns, (row + 0.5) / rows)
                np.testing.assert_allclose(seen[:3], diverging(grid[row, column] / largest), atol=3)
                assert seen[3] == 255
    expect(page.locator("#heat-high")).to_have_text(f"adds {largest:.3f}")
    expect(page.locator("#heat-words")).to_contain_text(f"{told['cosine']:.4f}")
    first = told["links"][0]
    line = page.locator("#heat-links li").first
    expect(line).to_contain_text(f"A: row {first['query']['row'] + 1}, column {first['query']['column'] + 1}")
    expect(line).to_contain_text(f"+{first['value']:.4f}")
    mark = page.locator("#pair .photo").first.locator(".mark").filter(has_text="1").first
    assert float(mark.evaluate("m => m.style.left").rstrip("%")) == pytest.approx(100 * first["query"]["x"], abs=1e-4)


def test_slider_and_switch_rule_the_map(visit, site, folder) -> None:
    page = visit(url(site))
    choose(page, folder / "p1.png", folder / "p2.png")
    page.wait_for_selector(READY)
    heat = page.locator("canvas.map").first
    expect(heat).to_have_css("opacity", "0.55")
    page.locator("#heat-opacity").fill("80")
    expect(heat).to_have_css("opacity", "0.8")
    page.locator("#heat-switch").click()
    expect(heat).to_have_css("opacity", "0")
    expect(page.locator("#heat-switch")).to_have_attribute("aria-checked", "false")
    page.locator("#heat-switch").click()
    expect(heat).to_have_css("opacity", "0.8")


def test_map_lies_exactly_on_the_photo(visit, site, draw, encode, tmp_path) -> None:
    """However wide or tall a photo is: its frame keeps its size, and the map has the photo's."""
    page = visit(url(site))
    sizes = (300, 40), (40, 300)
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.png").write_bytes(encode(draw(number, size=size)))
    choose(page, tmp_path / "0.png", tmp_path / "1.png")
    page.wait_for_selector(READY)
    for slot, (width, height) in enumerate(sizes):
        image = page.locator("#pair img").nth(slot).bounding_box()
        assert image == page.locator("canvas.map").nth(slot).bounding_box()
        assert image["width"] / image["height"] == pytest.approx(width / height, rel=0.02)
        frame = page.locator(".frame").nth(slot).bounding_box()
        assert frame["width"] / frame["height"] == pytest.approx(4 / 3, rel=0.01)


def test_cut_outs_lie_on_the_models_background(visit, site, draw, tmp_path) -> None:
    picture = draw(1, mode="RGBA")
    picture.putalpha(0)
    picture.save(tmp_path / "clear.png")
    page = visit(url(site))
    choose(page, tmp_path / "clear.png")
    expect(page.locator("#pair .photo").first).to_be_visible()
    shot = Image.open(io.BytesIO(page.locator("#pair .photo").first.screenshot())).convert("RGB")
    assert shot.getpixel((shot.width // 2, shot.height // 2)) == (200, 120, 40)


def test_photos_can_be_pasted_and_dropped(visit, site, folder) -> None:
    page = visit(url(site))
    files = """(bytes) => { const carried = new DataTransfer();
        bytes.forEach((one, index) => carried.items.add(
            new File([new Uint8Array(one)], `shot${index}.png`, { type: "image/png" })));
        return carried; }"""
    a, b, c = (list((folder / f"p{number}.png").read_bytes()) for number in (1, 2, 3))
    page.evaluate(
        f"""(bytes) => document.dispatchEvent(new ClipboardEvent("paste",
            {{ bubbles: true, clipboardData: ({files})(bytes) }}))""",
        [a],
    )
    expect(page.locator("#pair .name").first).to_contain_text("shot0.png")
    carried = page.evaluate_handle(files, [b])
    page.locator(".frame").nth(1).dispatch_event("drop", {"dataTransfer": carried})
    page.wait_for_selector(READY)
    expect(page.locator("#score-number")).to_have_text(
        f"{asked(site, folder / 'p1.png', folder / 'p2.png')['similarity']:.4f}"
    )
    both = page.evaluate_handle(files, [a, c])
    page.locator(".frame").first.dispatch_event("drop", {"dataTransfer": both})
    expect(page.locator("#score-number")).to_have_text(
        f"{asked(site, folder / 'p1.png', folder / 'p3.png')['similarity']:.4f}"
    )
    three = page.evaluate_handle(files, [a, b, c])
    page.locator(".frame").first.dispatch_event("drop", {"dataTransfer": three})
    expect(page.locator("#score-words")).to_contain_text("3 photos came at once")


def test_a_photo_can_be_removed(visit, site, folder) -> None:
    page = visit(url(site))
    choose(page, folder / "p1.png", folder / "p2.png")
    page.wait_for_selector(READY)
    page.get_by_role("button", name="Remove photo A").click()
    expect(page.locator("#score-words")).to_contain_text("Photo A is still missing")
    expect(page.locator("#heat-switch")).to_be_disabled()
    expect(page.locator("#pair .photo").first).to_be_hidden()
    assert page.evaluate("document.activeElement === document.querySelector('#pair input')")


def test_drawn_photos_are_at_hand(visit, site) -> None:
    page = visit(url(site))
    page.get_by_role("button", name="Try two drawn ones").click()
    page.wait_for_selector(READY)
    expect(page.locator("#pair .name").first).to_contain_text("drawn-1.jpg")


def test_a_bundle_without_places_says_why_there_is_no_map(visit, start, tiny_bundle, folder) -> None:
    page = visit(url(start(tiny_bundle)))
    choose(page, folder / "p1.png", folder / "p2.png")
    words = page.locator("#heat-words")
    expect(words).to_contain_text("The bundle has no heat map")
    expect(words).to_contain_text("does not tell what each place of a photo adds to the score")
    expect(words).to_contain_text("The score stands without a map")
    expect(page.locator("#heat-switch")).to_be_disabled()
    expect(page.locator("#score-number")).to_have_text(
        f"{float(page.locator('#score-meter').get_attribute('aria-valuenow')):.4f}"
    )
    expect(page.locator("#two-problem")).to_be_empty()


def test_a_calibrated_answer_in_plain_words(visit, site, folder) -> None:
    """The shipped bundle may not be calibrated: the answer is a real one with the two fields filled in."""
    page = visit(url(site))
    a, b = folder / "p1.png", folder / "p2.png"
    answer = asked(site, a, b) | {"probability": 0.934, "verdict": "uncertain"}
    page.route("**/similarity", lambda route: route.fulfill(json=answer))
    choose(page, a, b)
    words = page.locator("#score-words")
    expect(words).to_contain_text("the same jaguar with a probability of 93.4%.")
    expect(words).to_contain_text("Verdict: uncertain.")
    expect(words).to_contain_text("photos like those that the model was calibrated with")
    expect(words).not_to_contain_text("not calibrated")
