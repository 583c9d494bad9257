"""The page as a server gives it out: headers, what a browser may keep, and files that are complete by themselves."""

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest

from app import problems
from app.routes.page import FOLDER

ROOT = Path(__file__).parents[2]
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
SCRIPTS = [name for name in FILES if name.endswith(".js")]
STYLES = [name for name in FILES if name.endswith(".css")]
TYPES = {
    ".css": "text/css", ".html": "text/html", ".jpg": "image/jpeg", ".js": "javascript", ".svg": "image/svg+xml",
}  # fmt: skip
IMPORT = re.compile(r"""^import .* from "([^"]+)";$""", re.MULTILINE)


def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Everything of the HTML that a policy or a browser would trip over."""

    def __init__(self) -> None:
        super().__init__()
        self.references, self.ids, self.named, self.inline = [], [], [], []
        self._open = ""

    def handle_starttag(self, tag: str, attributes) -> None:
        self._open = tag
        found = dict(attributes)
        self.references += [found[name] for name in ("src", "href") if name in found and tag != "a"]
        self.ids += [found["id"]] if "id" in found else []
        for name in ("aria-controls", "aria-labelledby", "aria-describedby", "for"):
            self.named += found.get(name, "").split()
        self.inline += [f"{tag} {name}" for name in found if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"} and data.strip():
            self.inline.append(f"{self._open}: {data.strip()[:40]}")


@pytest.fixture(scope="module")
def page() -> Page:
    parsed = Page()
    parsed.feed(text("index.html"))
    return parsed


def test_the_page_is_served_with_its_headers(service) -> None:
    answer = service().get("/")
    assert answer.status_code == 200
    assert answer.content == (FOLDER / "index.html").read_bytes()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["", *(f"static/{name}" for name in FILES)])
def test_a_browser_asks_whether_what_it_has_is_still_right(service, name: str) -> None:
    client = service()
    first = client.get(f"/{name}")
    assert first.status_code == 200
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(f"/{name}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == "no-cache"
    other = client.get(f"/{name}", headers={"if-none-match": '"another"'})
    assert (other.status_code, other.content) == (200, first.content)
    head = client.head(f"/{name}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(first.content))


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_its_type(service, name: str) -> None:
    """`nosniff` has browsers refuse scripts and styles of another type."""
    answer = service().get(f"/static/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    assert TYPES[Path(name).suffix] in answer.headers["content-type"]


def test_the_page_needs_no_key(service) -> None:
    client = service(api_keys="sesame")
    assert client.get("/").status_code == 200
    assert client.get("/static/js/main.js").status_code == 200
    assert client.get("/model").status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/static", "/static/", "/static/js", "/static/none.js", "/static/../main.py", "/static/%2e%2e/main.py",
     "/static/..%2fmain.py", "/static//etc/passwd", "/static/js/%00.js", "/index.html"],
)  # fmt: skip
def test_nothing_else_is_served(service, assert_problem, path: str) -> None:
    assert_problem(service().get(path), 404, "not-found")


@pytest.mark.parametrize("path", ["/", "/static/js/main.js"])
def test_the_page_is_read_only(service, assert_problem, path: str) -> None:
    answer = service().post(path)
    assert_problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]


def test_the_page_is_no_call_of_the_interface(service) -> None:
    paths = service().get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/static")]


def test_nothing_is_inline(page: Page) -> None:
    assert page.inline == []


def test_scripts_set_no_styles_as_text_and_make_no_html() -> None:
    """What the policy would refuse, and what would take a file's name for HTML."""
    refused = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\(.style"
    )
    assert [name for name in SCRIPTS if refused.search(text(name))] == []
    assert [name for name in STYLES if "@import" in text(name) or "url(" in text(name)] == []


def test_everything_that_is_named_is_there(page: Page) -> None:
    assert page.references
    used = {urljoin("/", reference) for reference in page.references}
    for name in SCRIPTS:
        used |= {urljoin(f"/static/{name}", found) for found in IMPORT.findall(text(name))}
        used |= {f"/{found}" for found in re.findall(r"[`\"](static/[^`\"$]+)[`\"]", text(name))}
    known = {f"/static/{name}" for name in FILES}
    assert used <= known, used - known
    samples = {f"/static/samples/drawn-{number}.jpg" for number in (1, 2)}
    assert known - used == {"/static/index.html", *samples}, "files that nobody uses"


def test_the_page_asks_nobody_else(page: Page) -> None:
    """Relative addresses alone: it works offline, and below any path of a proxy."""
    assert not [reference for reference in page.references if re.match(r"/|[a-z]+:", reference)]
    addresses = re.compile(r"https?://(?!www\.w3\.org/)")
    assert [name for name in FILES if not name.endswith(".jpg") and addresses.search(text(name))] == []


def test_ids_are_unique_and_those_that_are_named_exist(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert set(page.named) <= set(page.ids)
    sought = {found for name in SCRIPTS for found in re.findall(r"byId\(\"([\w-]+)\"\)", text(name))}
    assert sought <= set(page.ids), sought - set(page.ids)


def test_every_problem_has_a_hint() -> None:
    """What to do is said for each problem that a call of the page may get."""
    hints = set(re.findall(r"^  \"([\w-]+)\":", text("js/hints.js"), re.MULTILINE))
    kinds = (*problems.ERRORS.values(), problems.BODY_TOO_LARGE, problems.TOO_MANY_PARTS)
    elsewhere = {
        "invalid-request",
        "unsupported-media-type",
        "forbidden",
        "bundle-refused",
        "no-result",
        "invalid-body",
    }
    assert {kind.slug for kind in kinds} - elsewhere <= hints


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".jpg")])
def test_files_stay_short(name: str) -> None:
    lines = text(name).splitlines()
    assert len(lines) <= 300
    assert max(map(len, lines)) <= 120


def test_the_page_is_part_of_the_package() -> None:
    """Hatch takes whole packages; a file that is not ignored by git goes into the wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "app" in settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert FOLDER.parent == ROOT / "app"
