"""What goes wrong is said on the page, in the problem's words, aloud, with what to do."""

import os
import re
import socket

from playwright.sync_api import expect

from tests.browser.conftest import url
from tests.service.live import Relay


def choose(page, a, b) -> None:
    page.locator("#pair input").nth(0).set_input_files(a)
    page.locator("#pair input").nth(1).set_input_files(b)


def test_a_text_file_called_jpg(visit, site, folder, tmp_path) -> None:
    letter = tmp_path / "letter.jpg"
    letter.write_text("Dear jaguar,")
    page = visit(url(site))
    choose(page, letter, folder / "p1.png")
    problem = page.get_by_role("alert").locator(".problem")
    expect(problem).to_contain_text("A photo is not JPEG, PNG or WebP – photo A")
    expect(problem).to_contain_text("query_image 'letter.jpg': not a JPEG, PNG or WebP file")
    expect(problem).to_contain_text("save it as JPEG, PNG or WebP")
    expect(problem).to_contain_text(re.compile("Request id [0-9a-f]{32}"))
    expect(page.locator("#score-words")).to_contain_text("There is no score")
    expect(page.locator(".blind").first).to_have_text("This browser cannot show it.")
    page.locator("#pair input").nth(0).set_input_files(folder / "p2.png")
    expect(page.locator("#two-problem")).to_be_empty()
    expect(page.locator("#score-number")).to_have_text(re.compile(r"0\.\d{4}"))


def test_the_service_is_gone_and_comes_back(visit, start, folder) -> None:
    server = start()
    relay = Relay(server.port)
    try:
        page = visit(relay.url)
        server.stop()
        choose(page, folder / "p1.png", folder / "p2.png")
        problem = page.locator("#two-problem .problem")
        expect(problem).to_contain_text("The service does not answer")
        expect(problem).to_contain_text("Check that it is running (make serve)")
        relay.target = server.start().port
        problem.get_by_role("button", name="Try again").click()
        expect(page.locator("#score-number")).to_have_text(re.compile(r"0\.\d{4}"))
        expect(page.locator("#two-problem")).to_be_empty()
    finally:
        page.close()
        relay.close()


def test_a_photo_that_changed_since_it_was_chosen(visit, site, folder, tmp_path) -> None:
    photo = tmp_path / "mine.png"
    photo.write_bytes((folder / "p1.png").read_bytes())
    page = visit(url(site))
    page.locator("#pair input").nth(0).set_input_files(photo)
    photo.write_bytes((folder / "p3.png").read_bytes())
    os.utime(photo, (1, 1))  # a browser looks at whole seconds
    page.locator("#pair input").nth(1).set_input_files(folder / "p2.png")
    problem = page.locator("#two-problem .problem")
    expect(problem).to_contain_text("The request broke off")
    expect(problem).to_contain_text("Choose the files again")


def test_a_csv_that_names_photos_which_are_not_there(visit, site, folder, tmp_path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("query_image,gallery_image\n" + "".join(f"gone{n}.png,p1.png\n" for n in range(12)))
    page = visit(url(site), "files")
    page.locator("#csv-drop input").set_input_files(table)
    page.locator("#images-drop input").first.set_input_files(folder / "p1.png")
    page.get_by_role("button", name="Score the table").click()
    problem = page.locator("#files-problem .problem")
    expect(problem).to_contain_text("Photos are missing – pairs.csv")
    expect(problem).to_contain_text("photos that are not in the upload")
    expect(problem.locator("li").first).to_have_text("line 2: 'gone0.png'")
    expect(problem.get_by_text("4 more")).to_be_visible()
    expect(problem).to_contain_text("Add the photos that are named")
    expect(page.locator("#jobs .job")).to_have_count(0)
    # Put right, the same form goes through.
    table.write_text("query_image,gallery_image\np1.png,p1.png\n")
    page.locator("#csv-drop input").set_input_files(table)
    expect(page.locator("#files-problem")).to_be_empty()
    page.get_by_role("button", name="Score the table").click()
    expect(page.locator("#jobs .status")).to_contain_text("Done: 1 photo")


def test_a_table_without_its_columns(visit, site, tmp_path) -> None:
    table = tmp_path / "wrong.csv"
    table.write_text("left,right\na,b\n")
    page = visit(url(site), "files")
    page.get_by_role("button", name="Score the table").click()
    expect(page.locator("#files-hint")).to_contain_text("choose a CSV first")
    page.locator("#csv-drop input").set_input_files(table)
    page.get_by_role("button", name="Score the table").click()
    expect(page.locator("#files-problem .problem")).to_contain_text("The CSV breaks its contract")
    expect(page.locator("#files-problem .problem")).to_contain_text("query_image")


def test_a_key_is_asked_for_until_it_is_right(visit, start, folder) -> None:
    page = visit(url(start(JAGUAR_API_KEYS="sesame", key="sesame")))
    dialog = page.get_by_role("dialog", name="This service asks for a key")
    expect(dialog).to_be_visible()
    page.get_by_label("API key").fill("guess")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("does not know the key")
    page.keyboard.press("Escape")
    expect(page.locator("#model-line")).to_have_text("Model unknown: a key is needed.")
    choose(page, folder / "p1.png", folder / "p2.png")
    expect(dialog).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#two-problem .problem")).to_contain_text("A key is needed")
    page.get_by_role("button", name="Try again").click()
    page.get_by_label("API key").fill("sesame")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#score-number")).to_have_text(re.compile(r"0\.\d{4}"))
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
    page.reload()
    expect(page.locator("#model-line")).to_contain_text("Model placed")
    page.get_by_role("button", name="API key").click()
    page.get_by_role("button", name="Forget it").click()
    expect(page.locator("#key-button")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_busy_service_is_waited_for(visit, start, folder) -> None:
    """One place, taken by somebody whose photo does not arrive; the page says so, waits as told, and gets its score."""
    server = start(JAGUAR_MAX_INFLIGHT="1")
    page = visit(url(server))
    lines = (
        b"POST /embed HTTP/1.1",
        b"Host: x",
        b"Content-Type: multipart/form-data; boundary=b",
        b"Content-Length: 99",
    )
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"\r\n".join((*lines, b"", b"--b\r\n")))
        choose(page, folder / "p1.png", folder / "p2.png")
        expect(page.locator("#score-words")).to_contain_text("The service is busy; trying again in 1 s")
    expect(page.locator("#score-number")).to_have_text(re.compile(r"0\.\d{4}"))


def test_something_in_between_answers(visit, site, folder) -> None:
    """A proxy's own page is no problem+json; it is not taken for the service's."""
    page = visit(url(site))
    page.route("**/similarity", lambda route: route.fulfill(status=502, content_type="text/html", body="<h1>Bad</h1>"))
    choose(page, folder / "p1.png", folder / "p2.png")
    problem = page.locator("#two-problem .problem")
    expect(problem).to_contain_text("The answer is not the service’s")
    expect(problem).to_contain_text("status 502")


def test_more_than_the_service_takes(visit, start, folder, tmp_path) -> None:
    """The service answers while the body is still on its way; the page gets to see why."""
    page = visit(url(start(JAGUAR_MAX_BODY_BYTES="100KiB")), "files")
    (tmp_path / "pairs.csv").write_text("query_image,gallery_image\np1.png,p1.png\n")
    (tmp_path / "large.zip").write_bytes(os.urandom(30_000_000))
    page.locator("#csv-drop input").set_input_files(tmp_path / "pairs.csv")
    page.locator("#images-drop input").first.set_input_files(tmp_path / "large.zip")
    page.get_by_role("button", name="Score the table").click()
    problem = page.locator("#files-problem .problem")
    expect(problem).to_contain_text("The body is too large")
    expect(problem).to_contain_text("JAGUAR_MAX_BODY_BYTES")
