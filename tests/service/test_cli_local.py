"""The commands without a server: the service's answers to the bit, the engine's by another road, files left whole."""

import io
import os
import shutil
import stat
import subprocess
import threading
from itertools import permutations

import numpy as np
import pytest

from app.cli.answers import Compared
from app.cli.local import LocalEngine
from app.reid.embedder import load_model
from tests.reid.placed import save_placed
from tests.service.cli import ask, ask_bytes, command, environment


@pytest.fixture
def env(tiny_bundle):
    return {"JAGUAR_MODEL": str(tiny_bundle)}


@pytest.fixture
def folder(tmp_path, draw, encode):
    """Drawn photos of all kinds that the competition and camera traps bring: 0.png to 7.jpg, half of them in test/."""
    top = tmp_path / "photos"
    (top / "test").mkdir(parents=True)
    for seed in range(8):
        size = (90 + 17 * seed, 60 + 11 * seed)
        if seed < 4:
            (top / "test" / f"{seed}.png").write_bytes(encode(draw(seed, size=size, mode="RGBA")))
        else:
            (top / f"{seed}.jpg").write_bytes(encode(draw(seed, size=size), "JPEG"))
    return top


@pytest.fixture
def two(folder):
    return folder / "test" / "0.png", folder / "4.jpg"


@pytest.fixture
def test_csv(tmp_path, folder):
    """The competition's layout over the eight photos."""
    names = [f"{seed}.png" if seed < 4 else f"{seed}.jpg" for seed in range(8)]
    rows = [f"{row},{query},{gallery}" for row, (query, gallery) in enumerate(permutations(names, 2))]
    path = tmp_path / "test.csv"
    path.write_text("\n".join(["row_id,query_image,gallery_image", *rows, ""]))
    return path


@pytest.fixture
def pairs_csv(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(b'\xef\xbb\xbfnote,query_image,gallery_image\r\n"a, b",0.png,4.jpg\r\nx,test/0.png,0.png\r\n')
    return path


def uploads(folder):
    return [("images", (path.name, path.read_bytes())) for path in sorted(folder.rglob("*.*"))]


class TestSimilarity:
    def test_it_is_the_services_answer(self, env, two, service):
        sent = {part: path.read_bytes() for part, path in zip(("query_image", "gallery_image"), two, strict=True)}
        ended = ask("similarity", *two, "--json", **env)
        assert (ended.code, ended.err) == (0, "")
        assert list(ended.json.items()) == list(service().post("/similarity", files=sent).json().items())

    def test_it_is_the_cosine(self, env, two, tiny_embedding):
        a, b = (tiny_embedding(path.read_bytes()) for path in two)
        assert ask("similarity", *two, "--json", **env).json["cosine"] == pytest.approx(a @ b, abs=1e-5)

    def test_in_words(self, env, two):
        answer = ask("similarity", *two, "--json", **env).json
        lines = ask("similarity", *two, **env).out.splitlines()
        assert lines == [
            f"similarity   {answer['similarity']:.6f}",
            f"cosine       {answer['cosine']:.6f}",
            "probability  not known: this model is uncalibrated",
            f"model        {answer['model_version']}",
        ]

    def test_a_calibrated_service_gives_a_verdict(self, two, monkeypatch):
        """In words; the numbers are looked at in test_calibrated.py."""
        monkeypatch.setattr(LocalEngine, "compare", lambda *_: Compared("v", 0.9, 0.8, 0.97, "same"))
        out = ask("similarity", *two).out
        assert "probability  0.9700\nverdict      same\n" in out


class TestExplain:
    @pytest.fixture
    def placed(self, tmp_path):
        return save_placed(tmp_path / "store" / "placed")

    def test_it_is_the_services_picture(self, placed, two, tmp_path, service):
        sent = {part: path.read_bytes() for part, path in zip(("query_image", "gallery_image"), two, strict=True)}
        drawn = tmp_path / "drawn.png"
        ended = ask("similarity", *two, "--explain", drawn, JAGUAR_MODEL=str(placed))
        assert ended.code == 0, ended.err
        assert f"drawn        {drawn}\n" in ended.out
        client = service(model=load_model(placed))
        png = client.post("/similarity/explain", files=sent, headers={"Accept": "image/png"})
        assert drawn.read_bytes() == png.content
        plain = ask("similarity", *two, "--json", JAGUAR_MODEL=str(placed)).json
        explained = ask("similarity", *two, "--json", "--explain", drawn, JAGUAR_MODEL=str(placed)).json
        assert plain == explained

    def test_a_bundle_that_cannot(self, env, two, tmp_path):
        drawn = tmp_path / "drawn.png"
        ended = ask("similarity", *two, "--explain", drawn, **env)
        assert (ended.code, ended.out) == (2, "")
        assert "the bundle tiny does not tell what each place adds" in ended.err
        assert not drawn.exists()


class TestEmbed:
    def test_a_numpy_file(self, env, folder, tiny_embedding, tmp_path):
        out = tmp_path / "x.npy"
        ended = ask("embed", folder / "4.jpg", folder / "test", "--out", out, **env)
        assert ended.code == 0, ended.err
        assert ended.out.startswith(f"{out}: 5 embeddings of 512, model ")
        photos = [folder / "4.jpg", *(folder / "test" / f"{seed}.png" for seed in range(4))]
        expected = [tiny_embedding(path.read_bytes()) for path in photos]
        embeddings = np.load(out)
        assert embeddings.dtype == np.float32
        np.testing.assert_allclose(embeddings, expected, atol=1e-5)

    def test_what_stands_in_which_row(self, env, folder, tmp_path):
        told = ask("embed", folder, "--out", tmp_path / "x.npy", "--json", **env).json
        assert told["shape"] == [8, 512]
        assert told["photos"] == [str(path) for path in sorted(folder.rglob("*.*"))]

    def test_json_is_the_services(self, env, two, service):
        sent = [("images", (str(path), path.read_bytes())) for path in two]
        told = ask("embed", *two, "--json", **env)
        assert told.json == service().post("/embed", files=sent).json()

    def test_without_anywhere_to_go(self, env, two):
        ended = ask("embed", *two, **env)
        assert (ended.code, ended.err.splitlines()[0]) == (2, "jaguar-reid: embeddings need --out X.npy or --json")


class TestTables:
    def test_a_submission_is_the_services_to_the_byte(self, env, folder, test_csv, service, tmp_path):
        out = tmp_path / "submission.csv"
        ended = ask("submission", test_csv, "--images", folder, "--out", out, **env)
        assert (ended.code, ended.err) == (0, "")
        files = [("test_csv", test_csv.read_bytes()), *uploads(folder)]
        assert out.read_bytes() == service().post("/submission", files=files).content
        assert out.read_bytes().count(b"\n") == 57
        assert f"jaguar-reid check {out} --test {test_csv}" in ended.out

    def test_a_batch_is_the_services_to_the_byte(self, env, folder, pairs_csv, service):
        files = [("pairs", pairs_csv.read_bytes()), *uploads(folder)]
        content = service().post("/similarity/batch", files=files).content
        assert ask_bytes("batch", pairs_csv, "--images", folder, **env) == content
        assert content.count(b"\n") == 3

    def test_the_image_root_serves_where_no_folder_is_named(self, env, folder, test_csv):
        named = ask_bytes("submission", test_csv, "--images", folder, **env)
        assert ask_bytes("submission", test_csv, JAGUAR_IMAGE_ROOT=str(folder), **env) == named

    def test_without_any_folder_of_photos(self, env, test_csv):
        ended = ask("submission", test_csv, **env)
        assert (ended.code, "or set JAGUAR_IMAGE_ROOT" in ended.err) == (2, True)

    def test_json_needs_a_file_for_the_csv(self, env, folder, test_csv, tmp_path):
        asked = ("submission", test_csv, "--images", folder, "--json")
        assert ask(*asked, **env).code == 2
        told = ask(*asked, "--out", tmp_path / "out.csv", **env).json
        assert set(told) == {"model_version", "postprocess", "out", "seconds"}

    @pytest.mark.parametrize(
        ("rows", "told"),
        [
            ("0.png,9.png", "line 2: '9.png'"),
            ("0.png,../9.png", "line 2: '../9.png'"),
            ("0.png", "line 2: 1 fields; the header has 2"),
        ],
    )
    def test_a_table_that_cannot_be_scored(self, env, folder, tmp_path, rows, told):
        (tmp_path / "wrong.csv").write_text(f"query_image,gallery_image\n{rows}\n")
        out = tmp_path / "out.csv"
        out.write_text("before")
        ended = ask("batch", tmp_path / "wrong.csv", "--images", folder, "--out", out, **env)
        assert (ended.code, ended.out) == (2, "")
        assert told in ended.err
        assert "wrong.csv" in ended.err or "folder of photos" in ended.err
        assert out.read_text() == "before"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "photos", "wrong.csv"]

    def test_limits_hold_here_as_well(self, env, folder, test_csv):
        asked = ("submission", test_csv, "--images", folder)
        for setting, value, told in (
            ("JAGUAR_MAX_CSV_ROWS", "5", "more than 5 rows"),
            ("JAGUAR_MAX_CSV_BYTES", "9", "the limit is 9 (JAGUAR_MAX_CSV_BYTES)"),
            ("JAGUAR_MAX_IMAGE_BYTES", "99", "the limit is 99 (JAGUAR_MAX_IMAGE_BYTES)"),
            ("JAGUAR_MAX_PIXELS", "99", "the limit is 99"),
        ):
            ended = ask(*asked, **{setting: value}, **env)
            assert (ended.code, ended.out) == (2, "")
            assert told in ended.err
            assert setting in ended.err


class TestRank:
    def test_the_order_is_that_of_the_cosines(self, env, folder, tiny_embedding):
        query = folder / "test" / "2.png"
        told = ask("rank", query, "--gallery", folder, "--top", "100", "--json", **env).json
        by_hand = {}
        for path in folder.rglob("*.*"):
            if path != query:
                by_hand[str(path)] = float(tiny_embedding(query.read_bytes()) @ tiny_embedding(path.read_bytes()))
        assert [match["photo"] for match in told["matches"]] == sorted(by_hand, key=by_hand.get, reverse=True)
        assert [match["rank"] for match in told["matches"]] == list(range(1, 8))
        assert told["photos"] == 7
        for match in told["matches"]:
            assert match["cosine"] == pytest.approx(by_hand[match["photo"]], abs=1e-5)
            assert match["similarity"] == (match["cosine"] + 1) / 2

    def test_in_words_and_only_the_first(self, env, folder):
        told = ask("rank", folder / "4.jpg", "--gallery", folder, "--top", "2", "--json", **env).json["matches"]
        lines = ask("rank", folder / "4.jpg", "--gallery", folder, "--top", "2", **env).out.splitlines()
        assert lines[0].split() == ["rank", "similarity", "photo"]
        assert [line.split() for line in lines[1:]] == [
            [str(match["rank"]), f"{match['similarity']:.6f}", match["photo"]] for match in told
        ]

    def test_a_copy_elsewhere_comes_first(self, env, folder, tmp_path):
        shutil.copy(folder / "4.jpg", tmp_path / "copy.jpg")
        told = ask("rank", tmp_path / "copy.jpg", "--gallery", folder, "--json", **env).json
        assert told["matches"][0]["photo"] == str(folder / "4.jpg")
        assert told["matches"][0]["similarity"] == pytest.approx(1)

    def test_names_that_no_terminal_should_see(self, env, folder, tmp_path):
        shutil.copy(folder / "4.jpg", tmp_path / "photos" / "a\x1b[1m.jpg")
        out = ask("rank", folder / "4.jpg", "--gallery", folder, "--top", "1", **env).out
        assert "\x1b" not in out
        assert r"a\x1b[1m.jpg'" in out

    def test_nobody_to_rank(self, env, tmp_path, folder):
        (tmp_path / "alone").mkdir()
        assert "holds no photos" in ask("rank", folder / "4.jpg", "--gallery", tmp_path / "alone", **env).err
        shutil.copy(folder / "4.jpg", tmp_path / "alone" / "a.jpg")
        alone = tmp_path / "alone" / "a.jpg"
        ended = ask("rank", alone, "--gallery", tmp_path / "alone", **env)
        assert (ended.code, "holds no other photo" in ended.err) == (2, True)


class TestFiles:
    def test_what_was_there_is_replaced_through_its_link(self, env, two, tmp_path):
        (tmp_path / "real.npy").write_bytes(b"old")
        (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
        assert ask("embed", *two, "--out", tmp_path / "link.npy", **env).code == 0
        assert (tmp_path / "link.npy").is_symlink()
        assert np.load(tmp_path / "real.npy").shape == (2, 512)

    def test_a_pipe_is_written_to_and_stays(self, env, two, tmp_path):
        pipe, got = tmp_path / "pipe", []
        os.mkfifo(pipe)
        reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
        reader.start()
        assert ask("embed", *two, "--out", pipe, **env).code == 0
        reader.join(20)
        assert np.load(io.BytesIO(got[0])).shape == (2, 512)
        assert stat.S_ISFIFO(pipe.stat().st_mode)

    def test_a_damaged_photo_leaves_nothing(self, env, two, tmp_path):
        (tmp_path / "bad.png").write_bytes(two[0].read_bytes()[:200])
        out = tmp_path / "x.npy"
        ended = ask("embed", *two, tmp_path / "bad.png", "--out", out, **env)
        assert (ended.code, "bad.png" in ended.err, "damaged or cut short" in ended.err) == (2, True, True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.png", "photos"]

    @pytest.mark.parametrize(("place", "why"), [("nowhere/x.csv", "there is no such folder"), (".", "it is a folder")])
    def test_a_place_that_cannot_be_written(self, env, folder, test_csv, tmp_path, place, why):
        ended = ask("submission", test_csv, "--images", folder, "--out", tmp_path / place, **env)
        assert (ended.code, f"cannot be written: {why}" in ended.err) == (2, True)

    def test_the_input_is_not_replaced(self, env, folder, test_csv):
        before = test_csv.read_bytes()
        ended = ask("submission", test_csv, "--images", folder, "--out", test_csv, **env)
        assert (ended.code, "is what the answer is made of" in ended.err) == (2, True)
        assert test_csv.read_bytes() == before

    def test_a_full_disk(self, env, two, tmp_path, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("app.cli.files.os.fsync", full)
        ended = ask("embed", *two, "--out", tmp_path / "x.npy", **env)
        assert (ended.code, "no space left on device" in ended.err) == (2, True)
        assert [path.name for path in tmp_path.iterdir()] == ["photos"]

    @pytest.mark.parametrize("more", [(), ("--explain", "drawn.png")])
    def test_a_photo_that_vanishes(self, two, tmp_path, monkeypatch, more):
        """Found, and gone before it is read, or before it is even looked at."""
        placed = save_placed(tmp_path / "store" / "placed")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("app.cli.compare.check_photo", lambda path: None)
        two[1].unlink()
        ended = ask("similarity", *two, *more, JAGUAR_MODEL=str(placed))
        assert (ended.code, "4.jpg': the file cannot be read" in ended.err) == (2, True)
        assert not (tmp_path / "drawn.png").exists()

    def test_whoever_reads_may_leave(self, env, two, tmp_path):
        """Quietly, and not with code 0: not everything was written."""
        process = subprocess.Popen(
            command("embed", *two, "--json"), env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(60) == 1
