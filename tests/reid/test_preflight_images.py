"""The photos behind a submission: all there, and of which round, by what their transparent pixels hide."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.reid.errors import ImageError
from app.reid.preflight import Severity, check_images
from app.reid.preflight.images import SAMPLE
from app.reid.preflight.rounds import Header, Look, find_rounds, find_sizes, look_at, read_header
from app.reid.tables import read_test


@pytest.fixture
def cut_out(draw, encode):
    """`cut_out(seed, hidden, size)` -> a PNG's bytes: a disc of a picture, around it `hidden` under alpha 0."""

    def make(seed: int, hidden=None, size=(64, 48)) -> bytes:
        pixels = np.asarray(draw(seed, size=size, mode="RGB")).copy()
        down, across = np.mgrid[: size[1], : size[0]]
        outside = (down - size[1] / 2) ** 2 + (across - size[0] / 2) ** 2 > (min(size) / 3) ** 2
        if hidden is not None:
            pixels[outside] = hidden
        alpha = np.where(outside, 0, 255).astype(np.uint8)
        return encode(Image.fromarray(np.dstack([pixels, alpha])))

    return make


def table(names: list[str]):
    rows = [f"{row},{name},{names[0]}" for row, name in enumerate(names[1:])]
    return read_test("\n".join(["row_id,query_image,gallery_image", *rows]).encode())


def codes(findings) -> list[str]:
    return [finding.code for finding in findings]


class TestLooks:
    def test_what_is_hidden(self, cut_out, draw, encode) -> None:
        assert look_at(cut_out(1), "a") is Look.BACKGROUND
        assert look_at(cut_out(1, hidden=(0, 0, 0)), "a") is Look.BLACK
        assert look_at(cut_out(1, hidden=(255, 255, 255)), "a") is Look.FLAT
        assert look_at(encode(draw(1)), "a") is Look.OPAQUE
        assert look_at(encode(draw(1), "JPEG"), "a") is Look.OPAQUE
        solid = draw(1).convert("RGBA")
        assert look_at(encode(solid), "a") is Look.OPAQUE

    def test_a_picture_that_is_none(self) -> None:
        with pytest.raises(ImageError, match="'a.png'"):
            look_at(b"nothing", "'a.png'")

    def test_headers(self, cut_out, draw, encode) -> None:
        assert read_header(cut_out(1)[:26]) == Header(64, 48, is_rgba=True)
        assert read_header(encode(draw(1, size=(30, 20)))) == Header(30, 20, is_rgba=False)
        for other in (encode(draw(1), "JPEG"), cut_out(1)[:25], cut_out(1)[:12] + b"IDAT" + cut_out(1)[16:]):
            assert read_header(other) is None

    def test_rounds(self) -> None:
        for look, code, severity in (
            (Look.BACKGROUND, "round", Severity.NOTE),
            (Look.BLACK, "round", Severity.NOTE),
            (Look.FLAT, "no-round", Severity.WARNING),
            (Look.OPAQUE, "no-round", Severity.WARNING),
        ):
            (finding,) = find_rounds([("'a'", look), ("'b'", look)])
            assert (finding.code, finding.severity) == (code, severity)
            assert f"{look} (2 photos" in finding.what
        assert find_rounds([]) == []

    def test_two_rounds_in_one_folder(self) -> None:
        looks = [("'a'", Look.BACKGROUND), ("'b'", Look.BLACK), ("'c'", Look.BACKGROUND)]
        (finding,) = find_rounds(looks)
        assert (finding.code, finding.severity) == ("rounds-mixed", Severity.WARNING)
        assert finding.where == ("'b': round 2: black",)

    def test_another_round_to_train_on(self) -> None:
        looks = [("'a'", Look.BLACK)]
        assert codes(find_rounds(looks, [Look.BLACK, Look.BACKGROUND])) == ["round"]
        findings = find_rounds(looks, [Look.BACKGROUND])
        assert codes(findings) == ["round", "rounds-differ"]
        assert findings[1].severity is Severity.WARNING

    def test_sizes(self) -> None:
        large, small = Header(3035, 1964, is_rgba=True), Header(600, 400, is_rgba=True)
        assert find_sizes([("'a'", large), ("'b'", large)]) == []
        assert find_sizes([]) == []
        (note,) = find_sizes([("'a'", small), ("'b'", small), ("'c'", large)])
        assert (note.code, note.severity) == ("small", Severity.NOTE)
        (warning,) = find_sizes([("'a'", large), ("'b'", None), ("'c'", Header(3000, 2000, is_rgba=False))])
        assert (warning.code, warning.severity, warning.where) == ("no-cut-out", Severity.WARNING, ("'b'", "'c'"))


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path, cut_out) -> Path:
        """test/test/ with a.png to c.png, all of round 1."""
        (tmp_path / "test" / "test").mkdir(parents=True)
        for seed, name in enumerate("abc"):
            (tmp_path / "test" / "test" / f"{name}.png").write_bytes(cut_out(seed))
        return tmp_path

    NAMES = ("a.png", "b.png", "c.png")

    def test_all_there(self, folder) -> None:
        assert codes(check_images(table([*self.NAMES]), folder)) == ["small", "round"]

    def test_one_missing(self, folder) -> None:
        finding = check_images(table([*self.NAMES, "d.png"]), folder)[0]
        assert (finding.code, finding.severity) == ("images-missing", Severity.ERROR)
        assert finding.what == "not in the folder: 1 photo of the 4 that test.csv names"
        assert finding.where == ("line 4: 'd.png'",)

    def test_names_that_lead_out_are_missing(self, folder) -> None:
        assert codes(check_images(table(["a.png", "../x.png"]), folder))[0] == "images-missing"

    def test_an_empty_folder(self, tmp_path) -> None:
        assert codes(check_images(table([*self.NAMES]), tmp_path)) == ["images-missing"]

    def test_two_files_for_a_name(self, folder, cut_out) -> None:
        (folder / "a.png").write_bytes(cut_out(9))
        finding = check_images(table([*self.NAMES]), folder)[0]
        assert (finding.code, finding.where) == ("images-ambiguous", ("line 2: 'a.png'",))

    def test_two_names_for_a_file(self, folder) -> None:
        assert codes(check_images(table([*self.NAMES, "test/a.png"]), folder)) == ["small", "round"]

    def test_others_beside_them(self, folder, cut_out) -> None:
        for name in ("d.PNG", "notes.txt"):
            (folder / "test" / "test" / name).write_bytes(cut_out(5))
        (folder / "test" / "test" / "e.png").mkdir()
        finding = check_images(table([*self.NAMES]), folder)[0]
        assert (finding.code, finding.severity, finding.where) == ("images-extra", Severity.NOTE, ("'d.PNG'",))

    def test_photos_to_train_on_of_another_round(self, folder, cut_out) -> None:
        (folder / "train").mkdir()
        assert codes(check_images(table([*self.NAMES]), folder)) == ["small", "round"]
        (folder / "train" / "x.png").write_bytes(cut_out(7, hidden=(0, 0, 0)))
        assert codes(check_images(table([*self.NAMES]), folder)) == ["small", "round", "rounds-differ"]

    def test_damaged_photos(self, folder) -> None:
        (folder / "test" / "test" / "a.png").write_bytes(b"nothing")
        findings = check_images(table([*self.NAMES]), folder)
        assert codes(findings) == ["no-cut-out", "small", "images-unreadable", "round"]
        assert findings[2].where == ("'a.png': not a JPEG, PNG or WebP file",)
        assert "2 photos looked into" in findings[3].what

    def test_a_photo_that_vanishes(self, folder, monkeypatch) -> None:
        """Found, and gone when it is opened."""
        inner = Path.open

        def gone(self, *args, **options):
            if self.name == "a.png":
                raise FileNotFoundError(2, "No such file or directory")
            return inner(self, *args, **options)

        monkeypatch.setattr(Path, "open", gone)
        findings = check_images(table([*self.NAMES]), folder)
        assert codes(findings) == ["no-cut-out", "small", "images-unreadable", "round"]
        assert findings[2].where == ("'a.png': no such file or directory",)

    def test_of_many_a_dozen_is_looked_into(self, tmp_path, cut_out) -> None:
        names = [f"{number}.png" for number in range(SAMPLE + 5)]
        for seed, name in enumerate(names):
            (tmp_path / name).write_bytes(cut_out(seed, hidden=(0, 0, 0)))
        findings = check_images(table(names), tmp_path)
        assert f"({SAMPLE} photos looked into)" in findings[-1].what
        assert findings == check_images(table(names), tmp_path)
