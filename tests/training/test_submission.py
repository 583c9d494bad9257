import numpy as np
import pytest
from typer.testing import CliRunner

from app.reid.errors import DataError
from app.reid.scoring import PhotoPairs
from training.cli import app
from training.submission import mean_scores, read_test_pairs

runner = CliRunner()


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_cosines_are_averaged_and_not_embeddings():
    pairs = PhotoPairs([], np.array([0, 1]), np.array([1, 0]))
    one = np.array([[1, 0], [0, 1]], np.float32)
    two = np.array([[1, 0, 0], [0.6, 0.8, 0]], np.float32)
    scores = mean_scores(pairs, [one, two])
    assert scores.cosine == pytest.approx([0.3, 0.3])
    assert scores.similarity == pytest.approx([0.65, 0.65])


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"test\.csv: No such file"):
        read_test_pairs(tmp_path / "test.csv", tmp_path)


@pytest.fixture
def unreadable(tmp_path):
    """A folder whose test photos are no pictures, and one is not there if asked for."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "test.csv").write_text("row_id,query_image,gallery_image\n0,a.png,b.png\n")
    return tmp_path


def test_all_unreadable_photos_are_listed_and_nothing_is_written(unreadable, tiny_bundle):
    done = run("submission", tiny_bundle, "--data", unreadable, "--out", unreadable / "submission.csv")
    assert done.exit_code == 2
    assert "2 of the 2 photos cannot be used" in " ".join(done.output.split())
    assert not (unreadable / "submission.csv").exists()


def test_missing_photos_are_found_before_any_model_is_loaded(unreadable):
    (unreadable / "b.png").unlink()
    done = run("submission", unreadable / "no-bundle", "--data", unreadable, "--out", unreadable / "submission.csv")
    assert done.exit_code == 2
    assert "line 2: 'b.png'" in done.output


def test_missing_test_photos_are_found_before_the_folds_train(unreadable, config_file):
    (unreadable / "b.png").unlink()
    options = ("--out", unreadable / "x", "--run", unreadable / "run", "--folds", 2)
    done = run("fit", config_file, "--data", unreadable, *options)
    assert (done.exit_code, "line 2: 'b.png'" in done.output) == (2, True)


def test_a_folder_that_cannot_be_written_to(unreadable, tiny_bundle, make_herd):
    data = make_herd(unreadable / "herd", identities=2, photos=2)
    (data / "test.csv").write_text("row_id,query_image,gallery_image\n0,animal0_0.png,animal1_0.png\n")
    done = run("submission", tiny_bundle, "--data", data, "--out", unreadable / "none" / "submission.csv")
    assert done.exit_code == 2
    assert "cannot be saved: No such file or directory" in " ".join(done.output.split())
