"""The report as whoever opens it finds it: whole, well-formed, self-contained, true to the figures."""

import base64
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app.reid.bundle import MANIFEST
from app.reid.errors import ConfigError, DataError
from training.cli import app
from training.data import load_photos
from training.evaluate import measure_bundle
from training.report import report_run, write_report
from training.report.gallery import thumbnails
from training.report.svg import Chart, Scale

SECTIONS = {
    "protocols", "identities", "pairs", "roc", "reliability", "novelty", "queries", "map", "background", "mirror",
    "quality", "explanation", "provenance",
}  # fmt: skip
EVIL = "<script>alert('&\"1\"')</script>"


class Page(HTMLParser):
    """Tags, ids and links of a page, and whether everything opened was closed."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.open, self.images = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("src", "href", "action", "data", "poster") if name in values]
        self.images += [values] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def evil_herd(tmp_path_factory, make_herd):
    """The herd, one animal of which has a name that wants to be a script."""
    folder = make_herd(tmp_path_factory.mktemp("evil") / "herd")
    text = (folder / "train.csv").read_text()
    quoted = '"' + EVIL.replace('"', '""') + '"'
    (folder / "train.csv").write_text(text.replace("animal 3", quoted))
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory, untrained, evil_herd):
    """(the folder, what was measured, the report, its stages)."""
    out = tmp_path_factory.mktemp("out") / "deep" / "report"
    measured = measure_bundle(untrained, evil_herd, within="side")
    stages = []
    report = write_report(measured, out, stage=lambda words, done, total: stages.append((words, done, total)))
    return out, measured, report, stages


def test_the_page_is_whole_and_needs_nothing_else(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert set(page.ids) >= SECTIONS
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    addresses = set(re.findall(r"[a-z]+://[^\s\"'<>]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "url(" not in text
    assert "@import" not in text


def test_every_chart_is_well_formed_and_has_a_name(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) >= 8
    for chart in charts:
        root = ET.fromstring(chart)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert "nan" not in chart


def test_names_are_text_and_never_markup(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(" in text
    report = json.loads((written[0] / "report.json").read_text())
    assert EVIL in [row["name"] for row in report["identities"]]


def test_the_json_says_what_evaluate_says(written, untrained, evil_herd):
    out, measured, _, _ = written
    found = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (found["format"], found["version"]) == ("jaguar-reid-report", 1)
    assert found["figures"] == measured.figures
    assert found["id_map"] == measured.evaluation.id_map
    rows = {row["protocol"]: row for row in found["protocols"]["rows"]}
    assert list(rows) == ["random", "burst", "identity", "zero-shot"]
    assert rows["zero-shot"]["id_map"]["value"] == measured.evaluation.id_map
    assert rows["zero-shot"]["id_map"]["low"] == measured.figures["protocols"]["zero-shot"]["id_map_interval"][0]
    assert rows["random"]["id_map"] == {"reason": "the model never saw these photos: see zero-shot"}
    assert found["protocols"]["seeds"] is None
    assert len(found["photos"]) == 36
    values = [row["average_precision"] for row in found["identities"]]
    assert values == sorted(values, reverse=True)
    assert np.mean(values) == pytest.approx(found["id_map"])
    assert "none of the 36 photos is a cut-out" in found["background"]["reason"]
    assert found["mirror"]["flanks"]["queries"] == 36
    assert found["provenance"]["data_fingerprint"] == measured.figures["data_fingerprint"]
    assert found["provenance"]["trained_data_fingerprint"] == "f" * 64
    assert "reason" in found["trust"]["fresh"]


def test_the_watcher_is_told(written):
    stages = written[3]
    assert stages[0][0] == "comparing pairs"
    assert ("embedding mirror images", 36, 36) in stages
    assert ("changing backgrounds", 36, 36) in stages


def test_best_and_worst_queries_are_those_of_the_evaluation(written):
    _, measured, report, _ = written
    ap = dict(zip(measured.photos.filenames, measured.evaluation.query_ap, strict=True))
    name = dict(zip(measured.photos.filenames, measured.photos.identities, strict=True))
    worst, best = report.gallery.worst, report.gallery.best
    assert worst[0].average_precision == min(ap.values())
    assert best[0].average_precision == max(ap.values())
    assert len({query.identity for query in worst}) == len(worst) == 6
    assert not {query.filename for query in worst} & {query.filename for query in best}
    side = dict(zip(measured.photos.filenames, measured.groups, strict=True))
    for query in (*worst, *best):
        row = measured.photos.filenames.index(query.filename)
        others = [f for f in name if f != query.filename and side[f] == side[query.filename]]
        ranked = sorted(others, key=lambda f: -measured.similarity[row, measured.photos.filenames.index(f)])
        assert [answer.filename for answer in query.answers] == ranked[:5]
        assert [answer.right for answer in query.answers] == [name[f] == query.identity for f in ranked[:5]]
        assert query.first_right.filename == next(f for f in ranked if name[f] == query.identity)


def test_thumbnails_keep_shape_and_mask(tmp_path, written):
    pixels = np.zeros((400, 200, 4), dtype=np.uint8)
    pixels[100:300, 50:150] = 200, 30, 30, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    uri = thumbnails(tmp_path, {"a.png"}, written[1].model.manifest.preprocess)["a.png"]
    head, _, data = uri.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == "data:image/webp;base64"
    assert image.size == (88, 176)
    assert image.convert("RGBA").getpixel((2, 2))[3] == 0
    assert image.convert("RGBA").getpixel((44, 88))[3] == 255


def test_one_gallery_with_one_animal(untrained, make_herd, tmp_path):
    """Nothing to compare with: said, and the page is there."""
    folder = make_herd(tmp_path / "one", identities=1)
    report = write_report(measure_bundle(untrained, folder), tmp_path / "out")
    assert "no different pair" in report.roc.reason
    assert "No gallery holds two different animals" in (tmp_path / "out" / "report.html").read_text()
    assert [len(report.gallery.worst), len(report.gallery.best)] == [1, 1]


def test_a_run_s_report_goes_beside_the_weights_without_photos(untrained, herd, tmp_path):
    bundle = tmp_path / "store" / "mine"
    shutil.copytree(untrained, bundle)
    spread = {"seeds": [0, 1], "id_map": [0.25, 0.35], "mean": 0.3, "sd": 0.07}
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "seeds.json").write_text(json.dumps(spread))
    photos = load_photos(herd, measure_bundle(bundle, herd).model.manifest.preprocess)
    sister = {"id_map": 0.5, "id_map_interval": [0.4, 0.6], "rank1": 0.7}
    sister |= {"queries": 9, "identities": 3, "skipped": 0, "ties": 0}
    report_run(bundle, photos, run_folder, sisters={"burst": sister})
    for place, images in ((run_folder, True), (bundle, False)):
        page = Page((place / "report.html").read_text(encoding="utf-8"))
        assert bool(page.images) is images
    found = json.loads((bundle / "report.json").read_text())
    assert found["protocols"]["seeds"] == spread
    rows = {row["protocol"]: row for row in found["protocols"]["rows"]}
    assert rows["burst"]["from_run"]
    assert rows["burst"]["id_map"] == {"value": 0.5, "low": 0.4, "high": 0.6}
    manifest = json.loads((bundle / MANIFEST).read_text())
    assert not [name for name in manifest["files"] if name.startswith("report")]
    measure_bundle(bundle, herd)  # and it still loads


def test_seeds_of_another_model_are_not_this_one_s(untrained, herd, tmp_path):
    (tmp_path / "seeds.json").write_text('{"seeds": [0, 1], "id_map": [0.1, 0.2], "mean": 0.15, "sd": 0.07}')
    measured = measure_bundle(untrained, herd)
    assert write_report(measured, tmp_path / "out", run=tmp_path).protocols.seeds is None
    (tmp_path / "seeds.json").write_text('{"seeds": [0]}')
    with pytest.raises(DataError, match="seeds.json is damaged; remove it"):
        write_report(measured, tmp_path / "out", run=tmp_path)


def test_a_folder_that_cannot_be_written(untrained, herd, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="the report cannot be written"):
        write_report(measure_bundle(untrained, herd), tmp_path / "file" / "x")


class TestCommand:
    def test_a_folder_gets_both_and_a_file_the_figures(self, untrained, herd, tmp_path):
        out, other, file = tmp_path / "report", tmp_path / "again", tmp_path / "figures.json"
        done = run("evaluate", untrained, "--data", herd, "--out", out)
        assert done.exit_code == 0, done.output
        assert {path.name for path in out.iterdir()} == {"report.html", "report.json"}
        done = run("evaluate", untrained, "--data", herd, "--out", file, "--report", other)
        assert done.exit_code == 0, done.output
        figures = json.loads(file.read_text())
        assert json.loads((out / "report.json").read_text())["figures"] == figures
        assert (other / "report.html").is_file()

    def test_bundles_and_files_are_no_place_for_it(self, untrained, herd, tmp_path):
        done = run("evaluate", untrained, "--data", herd, "--out", untrained)
        assert (done.exit_code, "is a bundle, and an evaluation changes none" in " ".join(done.output.split())) == (
            2,
            True,
        )
        (tmp_path / "there").write_text("")
        done = run("evaluate", untrained, "--data", herd, "--report", tmp_path / "there")
        assert (done.exit_code, "a file of that name is there" in " ".join(done.output.split())) == (2, True)


class TestSvg:
    def test_scales(self):
        assert Scale(0, 10, 100, 0)(5) == 50
        assert Scale(0, 10, 0, 100)(20) == 100
        assert Scale(0, 10, 0, 100)(-3) == 0
        assert Scale(0.01, 1, 0, 100, log=True)(0.1) == pytest.approx(50)
        assert Scale(3, 3, 0, 100)(3) == 50
        assert Scale(0.01, 1, 0, 1, log=True).ticks() == pytest.approx([0.01, 0.1, 1])

    @pytest.mark.parametrize(("low", "high"), [(0, 1), (0.13, 0.97), (0, 0.0312), (-3, 250), (4, 4)])
    def test_ticks_are_round_few_and_inside(self, low, high):
        ticks = Scale(low, high, 0, 1).ticks()
        assert len(ticks) <= 6
        assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
        if len(ticks) > 1:
            mantissa = float(f"{ticks[1] - ticks[0]:e}".partition("e")[0])
            assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 1e-6

    def test_words_are_escaped(self):
        chart = Chart("a & <b>")
        chart.text((0, 0), EVIL, "name")
        chart.dot((1, 2.5), 3, "fill", EVIL)
        root = ET.fromstring(str(chart.render()))
        assert root.get("aria-label") == "a & <b>"
        assert [element.text for element in root.iter() if element.text] == [EVIL, EVIL]
