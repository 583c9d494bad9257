"""The view "Files": tables become jobs."""

import itertools
import re
import zipfile

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import url
from tests.service.live import Relay

JOBS = "#jobs .job"


@pytest.fixture
def tables(folder, tmp_path):
    """test.csv and pairs.csv over p1 to p8, and their photos as a zip."""
    names = [f"p{number}.png" for number in range(1, 9)]
    pairs = list(itertools.permutations(names, 2))
    rows = [f"{number},{a},{b}" for number, (a, b) in enumerate(pairs)]
    (tmp_path / "test.csv").write_text("\n".join(["row_id,query_image,gallery_image", *rows, ""]))
    rows = [f"{a},{b},note {number}" for number, (a, b) in enumerate(pairs[:20])]
    (tmp_path / "pairs.csv").write_text("\n".join(["query_image,gallery_image,note", *rows, ""]))
    with zipfile.ZipFile(tmp_path / "test.zip", "w") as archive:
        for name in names:
            archive.write(folder / name, f"test/test/{name}")
    return tmp_path


def fill(page, table, *images) -> None:
    page.locator("#csv-drop input").set_input_files(table)
    if images:
        page.locator("#images-drop input").first.set_input_files(list(images))


def download(page, job) -> tuple[str, bytes]:
    with page.expect_download() as event:
        job.get_by_role("button", name="Download").click()
    return event.value.suggested_filename, event.value.path().read_bytes()


def submit(page) -> None:
    page.get_by_role("button", name="Score the table").click()


def test_a_submission_from_start_to_download(visit, site, tables) -> None:
    """The file is the synchronous answer, byte for byte."""
    page = visit(url(site), "files")
    fill(page, tables / "test.csv", tables / "test.zip")
    expect(page.locator("#csv-drop .said")).to_contain_text("test.csv · ")
    expect(page.locator("#images-drop .said")).to_contain_text("test.zip · ")
    submit(page)
    job = page.locator(JOBS)
    expect(job.locator(".status")).to_contain_text("Done: 8 photos in ")
    name, data = download(page, job)
    assert name == "submission.csv"
    parts = {"test_csv": (tables / "test.csv").read_bytes(), "images": (tables / "test.zip").read_bytes()}
    assert data == site.post("/submission", files=parts).content
    assert data.startswith(b"row_id,similarity\n0,")


def test_scored_pairs_keep_their_columns(visit, site, tables, folder) -> None:
    page = visit(url(site), "files")
    fill(page, tables / "pairs.csv", *sorted(folder.glob("p*.png")))
    expect(page.get_by_role("radio", name="Scored pairs")).to_be_checked()
    expect(page.locator("#images-drop .said")).to_contain_text("8 files · ")
    submit(page)
    job = page.locator(JOBS)
    expect(job.locator(".status")).to_contain_text("Done")
    _, data = download(page, job)
    lines = data.decode().splitlines()
    assert lines[0] == "query_image,gallery_image,note,cosine,similarity,probability,verdict"
    assert len(lines) == 21


def test_photos_from_their_folder(visit, site, tables, folder) -> None:
    """Names are paths inside the folder that was chosen."""
    (tables / "deep.csv").write_text("query_image,gallery_image\np1.png,night/p9.png\n")
    page = visit(url(site), "files")
    fill(page, tables / "deep.csv")
    page.locator("#images-drop input[webkitdirectory]").set_input_files(folder)
    expect(page.locator("#images-drop .said")).to_contain_text("2 other files left out")
    submit(page)
    expect(page.locator(JOBS).locator(".status")).to_contain_text("Done: 2 photos")


def test_a_reload_finds_the_jobs_again(visit, site, tables) -> None:
    page = visit(url(site), "files")
    for table in ("test.csv", "pairs.csv"):
        fill(page, tables / table, tables / "test.zip")
        submit(page)
        expect(page.locator(JOBS).first.locator(".status")).to_contain_text("Done")
    page.reload()
    expect(page.locator(JOBS)).to_have_count(2)
    expect(page.locator(f"{JOBS} strong")).to_have_text(["pairs.csv", "test.csv"])
    expect(page.locator(f"{JOBS} .status")).to_contain_text(["Done", "Done"])
    assert download(page, page.locator(JOBS).nth(1))[1].startswith(b"row_id,similarity\n")
    page.get_by_role("button", name="Remove pairs.csv").click()
    expect(page.locator(JOBS)).to_have_count(1)
    page.reload()
    expect(page.locator(f"{JOBS} strong")).to_have_text(["test.csv"])


def test_a_job_that_is_gone_says_so_once(visit, site, tables) -> None:
    page = visit(url(site), "files")
    fill(page, tables / "pairs.csv", tables / "test.zip")
    submit(page)
    expect(page.locator(JOBS).locator(".status")).to_contain_text("Done")
    name = page.evaluate("JSON.parse(localStorage.getItem('jaguar-jobs'))[0].id")
    assert site.request("DELETE", f"/jobs/{name}").status_code == 204
    page.reload()
    expect(page.locator(JOBS).locator(".status")).to_have_text("Gone")
    expect(page.locator(f"{JOBS} .problem")).to_contain_text("There is no such job")
    page.reload()
    expect(page.locator("#jobs-none")).to_be_visible()


def test_a_job_is_followed_through_a_restart_and_cancelled(visit, start, draw, encode, tmp_path) -> None:
    """The service is killed under the page: the card says so, finds the job again, and Cancel ends it."""
    server = start()
    names = [f"{number}.png" for number in range(150)]
    picture = encode(draw(1, size=(2400, 1600)), compress_level=1)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in names:  # what follows a picture's end is no part of it, but makes it another file
            archive.writestr(name, picture + name.encode())
    rows = [f"{a},{b}" for a, b in itertools.pairwise(names)]
    (tmp_path / "long.csv").write_text("\n".join(["query_image,gallery_image", *rows, ""]))
    relay = Relay(server.port)
    try:
        page = visit(relay.url, "files")
        fill(page, tmp_path / "long.csv", tmp_path / "photos.zip")
        submit(page)
        status = page.locator(JOBS).locator(".status")
        expect(status).to_have_text(re.compile(r"\d+ of 150 photos, about \d+ s left"))
        server.process.kill()
        server.process.wait()
        expect(status).to_contain_text("The service does not answer; the job is not lost, trying again")
        relay.target = server.start().port
        expect(status).to_contain_text(" of 150 photos")
        page.get_by_role("button", name="Cancel long.csv").click()
        expect(page.locator(JOBS)).to_have_count(0)
        assert page.evaluate("localStorage.getItem('jaguar-jobs')") == "[]"
        assert page.evaluate("document.activeElement.id") == "files-start"
    finally:
        page.close()
        relay.close()


def test_with_a_key_the_job_is_asked_after(visit, start, tables) -> None:
    """An EventSource cannot send the key; the CSV is fetched with it as well."""
    server = start(JAGUAR_API_KEYS="sesame", key="sesame")
    page = visit(url(server), "files")
    events = []
    page.on("request", lambda request: events.append(request.url) if "/events" in request.url else None)
    page.locator("#key-input").fill("sesame")
    page.get_by_role("button", name="Use this key").click()
    fill(page, tables / "test.csv", tables / "test.zip")
    submit(page)
    job = page.locator(JOBS)
    expect(job.locator(".status")).to_contain_text("Done")
    assert download(page, job)[1].startswith(b"row_id,similarity\n")
    assert events == []
