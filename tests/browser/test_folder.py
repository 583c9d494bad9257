"""The view "A folder": many photos, each with each."""

import csv
import io
import itertools

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import embeddings, url

DONE = "#folder-result:not([hidden])"


def pick(page, folder) -> None:
    page.locator("#folder-drop input[webkitdirectory]").set_input_files(folder)


def saved(page) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save all pairs as CSV").click()
    assert download.value.suggested_filename == "similarities.csv"
    return list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))


def truth(server, folder) -> dict[tuple[str, str], float]:
    """Similarities by name, computed from the service's float32 embeddings in numpy."""
    files = sorted(path for path in folder.rglob("p*.png"))
    names = [path.relative_to(folder).as_posix() for path in files]
    similarity = (embeddings(server, files) @ embeddings(server, files).T + 1) / 2
    return {(names[i], names[j]): similarity[i, j] for i, j in itertools.permutations(range(len(names)), 2)}


def test_a_folder_becomes_a_matrix_matches_and_a_csv(visit, site, folder) -> None:
    page = visit(url(site), "folder")
    pick(page, folder)
    page.wait_for_selector(DONE)
    known = truth(site, folder)
    expect(page.locator("#folder-drop .said")).to_have_text("9 photos")
    expect(page.locator("#folder-facts")).to_contain_text("9 photos, 36 pairs; model ")
    # The CSV: all ordered pairs, in the embeddings' own precision.
    rows = saved(page)
    assert {(row["query_image"], row["gallery_image"]) for row in rows} == set(known)
    assert len(rows) == len(known) == 72
    for row in rows:
        expected = known[row["query_image"], row["gallery_image"]]
        assert float(row["similarity"]) == pytest.approx(expected, rel=1e-8)
    # The matches of a photo that is chosen, the best first.
    page.locator("#ranks-photo").select_option(label="p4.png")
    best = sorted((pair for pair in known if pair[0] == "p4.png"), key=lambda pair: -known[pair])
    expect(page.locator("#ranks .name")).to_have_text([name for _, name in best])
    expect(page.locator("#ranks .value")).to_have_text([f"{known[pair]:.4f}" for pair in best])
    # The matrix begins at the best pair of all.
    top = max(known, key=known.__getitem__)
    assert set(page.locator("#couple .name").all_inner_texts()) == set(top)
    expect(page.locator("#couple .value")).to_have_text(f"{known[top]:.4f}")
    low, high = min(known.values()), max(known.values())
    expect(page.locator("#ramp-low")).to_have_text(f"{low:.4f}")
    expect(page.locator("#ramp-high")).to_have_text(f"{high:.4f}")


def test_the_matrix_is_walked_with_the_keys(visit, site, folder) -> None:
    page = visit(url(site), "folder")
    pick(page, folder)
    page.wait_for_selector(DONE)
    page.locator("#matrix-order").select_option("name")
    known = truth(site, folder)
    names = ["night/p9.png", *(f"p{number}.png" for number in range(1, 9))]
    matrix = page.locator("#matrix")
    matrix.focus()
    matrix.press("Control+Home")
    expect(page.locator("#announcer")).to_have_text("night/p9.png with itself")
    for key, row, column in (
        ("ArrowRight", 0, 1), ("ArrowDown", 1, 1), ("End", 1, 8), ("ArrowRight", 1, 8), ("ArrowDown", 2, 8),
        ("Home", 2, 0), ("PageDown", 8, 0), ("PageUp", 0, 0), ("ArrowUp", 0, 0), ("Control+End", 8, 8),
        ("ArrowLeft", 8, 7),
    ):  # fmt: skip
        matrix.press(key)
        expect(page.locator("#couple .name")).to_have_text([names[row], names[column]])
        pair = names[row], names[column]
        heard = f"{pair[0]} and {pair[1]}: {known[pair]:.4f}" if row != column else f"{pair[0]} with itself"
        expect(page.locator("#announcer")).to_have_text(heard)
    matrix.press("Enter")
    expect(page.locator("#ranks-photo")).to_have_value("8")
    page.get_by_role("button", name="Compare them").click()
    expect(page.locator("#tab-two")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#score-number")).to_have_text(f"{known['p8.png', 'p7.png']:.4f}")


def test_cells_have_the_colour_of_their_value(visit, site, folder) -> None:
    """Darker is more alike on light ground, lighter on dark ground; one ramp from the least to the most."""
    page = visit(url(site), "folder", color_scheme="light")
    pick(page, folder)
    page.wait_for_selector(DONE)
    page.locator("#matrix-order").select_option("name")
    page.locator("#matrix").press("Control+Home")
    known = truth(site, folder)
    names = ["night/p9.png", *(f"p{number}.png" for number in range(1, 9))]
    pairs = [(i, j) for i, j in itertools.permutations(range(9), 2) if (i, j) not in {(0, 1), (1, 0)}]
    for scheme, sign in (("light", -1), ("dark", 1)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(200)
        shot = np.asarray(Image.open(io.BytesIO(page.locator("#matrix canvas").screenshot())).convert("L"), float)
        side = shot.shape[0] / 9
        seen = [shot[int((i + 0.5) * side), int((j + 0.5) * side)] for i, j in pairs]
        value = [known[names[i], names[j]] for i, j in pairs]
        order = np.argsort(value)
        assert np.all(np.diff(sign * np.array(seen)[order]) >= -1.5), scheme


def test_alike_photos_stand_together(visit, site, draw, encode, tmp_path) -> None:
    """Three scenes, each seen twice, given in a mixed order: each pair becomes neighbours."""
    for place, seed in enumerate((1, 2, 3, 1, 2, 3)):
        picture = draw(seed).point(lambda value, place=place: min(255, value + place))
        (tmp_path / f"{place}-scene{seed}.png").write_bytes(encode(picture))
    page = visit(url(site), "folder")
    pick(page, tmp_path)
    page.wait_for_selector(DONE)
    matrix = page.locator("#matrix")
    matrix.focus()
    matrix.press("Control+Home")
    order = [page.locator("#couple .name").first.inner_text()]
    for _ in range(5):
        matrix.press("ArrowDown")
        order.append(page.locator("#couple .name").first.inner_text())
    scenes = [name[-5] for name in order]
    assert len(set(order)) == 6
    assert scenes[0::2] == scenes[1::2]


def test_a_file_that_is_no_photo_is_left_out_and_named(visit, site, folder, tmp_path) -> None:
    bad = tmp_path / "letter.jpg"
    bad.write_text("Dear jaguar,")
    cut = tmp_path / "cut.png"
    cut.write_bytes((folder / "p1.png").read_bytes()[:600])
    page = visit(url(site), "folder")
    page.locator("#folder-drop input").nth(1).set_input_files([*sorted(folder.glob("p*.png")), bad, cut])
    page.wait_for_selector(DONE)
    left_out = page.locator("#folder-left-out .problem")
    expect(left_out).to_have_count(2)
    expect(left_out.filter(has_text="letter.jpg was left out")).to_contain_text("A photo is not JPEG, PNG or WebP")
    expect(left_out.filter(has_text="cut.png was left out")).to_contain_text("A photo cannot be read")
    expect(page.locator("#folder-facts")).to_contain_text("8 photos, 28 pairs")


def test_photos_can_be_added_and_names_stay_unique(visit, site, folder) -> None:
    page = visit(url(site), "folder")
    several = page.locator("#folder-drop input").nth(1)
    several.set_input_files([folder / "p1.png"])
    expect(page.locator("#folder-drop .said")).to_have_text("1 photo · add at least one more")
    several.set_input_files([folder / "p1.png", folder / "p2.png"])
    page.wait_for_selector(DONE)
    expect(page.locator("#folder-facts")).to_contain_text("2 photos, 1 pair;")
    page.get_by_role("button", name="Start over").click()
    expect(page.locator("#folder-result")).to_be_hidden()
    expect(page.locator("#folder-drop .said")).to_have_text("Drop photos or a folder here")


def test_a_folder_can_be_dropped(visit, site, folder) -> None:
    """Through the browser's own drag and drop, with a real folder and what is below it."""
    page = visit(url(site), "folder")
    box = page.locator("#folder-drop .drop").bounding_box()
    place = {"x": box["x"] + 40, "y": box["y"] + 30}
    carried = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **place, "data": carried})
    page.wait_for_selector(DONE)
    expect(page.locator("#folder-facts")).to_contain_text("9 photos, 36 pairs")
    assert {row["query_image"] for row in saved(page)} == {"night/p9.png", *(f"p{n}.png" for n in range(1, 9))}


def test_cancel_keeps_what_is_there(visit, start, draw, encode, tmp_path) -> None:
    picture = encode(draw(1, size=(1500, 1000)), compress_level=1)
    for number in range(64):  # what follows a picture's end is no part of it, but makes it another file
        (tmp_path / f"{number}.png").write_bytes(picture + bytes([number]))
    page = visit(url(start()), "folder")
    pick(page, tmp_path)
    expect(page.locator("#folder-status")).to_contain_text(", about ")
    page.locator("#folder-cancel").click()
    expect(page.locator("#folder-progress")).to_be_hidden()
    expect(page.locator("#folder-problem")).to_be_empty()
    expect(page.locator("#folder-drop .said")).to_contain_text(" of 64 photos")


def test_five_hundred_photos(visit, site, encode, tmp_path) -> None:
    """As many as the page promises to stay usable with: 124,750 pairs, of which a few are looked up by hand."""
    chance = np.random.default_rng(5)
    for number in range(500):
        pixels = chance.integers(0, 256, (24, 36, 3), dtype=np.uint8)
        (tmp_path / f"p{number:03}.png").write_bytes(encode(Image.fromarray(pixels)))
    page = visit(url(site), "folder")
    pick(page, tmp_path)
    page.wait_for_selector(DONE, timeout=120_000)
    expect(page.locator("#folder-facts")).to_contain_text("500 photos, 124,750 pairs")
    files = sorted(tmp_path.glob("*.png"))
    unit = np.concatenate([embeddings(site, files[at : at + 100]) for at in range(0, 500, 100)])
    rows = saved(page)
    assert len(rows) == 500 * 499
    told = {(row["query_image"], row["gallery_image"]): float(row["similarity"]) for row in rows}
    for i, j in chance.integers(0, 500, (200, 2)):
        if i != j:
            assert told[files[i].name, files[j].name] == pytest.approx((unit[i] @ unit[j] + 1) / 2, rel=1e-8)
    page.locator("#matrix").press("ArrowRight")
    expect(page.locator("#couple .value")).not_to_be_empty()
