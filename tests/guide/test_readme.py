"""The README's command blocks, run in a scratch copy of the project with drawn photos in the competition's layout.

What differs from the README's words is listed in differences.py. GUIDE=full (`make guide`) runs the blocks that train
or start the service with make as well; without it they are skipped, and say so.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from tests.guide.blocks import ROOT, Block, readme_blocks
from tests.guide.differences import DIFFERENCES, DOCKER, SLOW, SUITE, differing, is_suite, suite_targets
from tests.guide.stage import IMAGE_TAG, Stage, free_port, is_full
from tests.reliability.harness import Server

BLOCKS = readme_blocks()
DOCKER_BLOCKS = [block for block in BLOCKS if DOCKER.search(block.text)]
SUITE_BLOCKS = [block for block in BLOCKS if all(map(suite_targets, block.commands))]
OTHERS = [block for block in BLOCKS if block not in DOCKER_BLOCKS and block not in SUITE_BLOCKS]
FAST = [block for block in OTHERS if not SLOW.search(block.text)]
LONG = [block for block in OTHERS if SLOW.search(block.text)]
over = partial(pytest.mark.parametrize, "block", ids=lambda block: block.name)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The scratch copy, the same for all blocks, in the README's order: a reader has one folder as well."""
    stage = Stage(tmp_path_factory.mktemp("guide"))
    pytest.importorskip("torch", reason="the photos are drawn by the train extra's tool")
    stage.draw(
        **({"identities": 6, "photos": 8, "test": 6} if is_full() else {"identities": 2, "photos": 2, "test": 5})
    )
    return stage


@pytest.fixture(scope="module")
def service(stage: Stage) -> Iterator[Server]:
    """What the README has started before: the service, which finds the photos in data/."""
    bundle, images = stage.folder / "model_store" / "default", stage.folder / "data"
    server = Server(stage.folder / "service", bundle, JAGUAR_IMAGE_ROOT=str(images))
    yield server.start()
    server.close()


@pytest.fixture(scope="module")
def submissions() -> list[bytes]:
    """What the competition's blocks have written."""
    return []


def run(stage: Stage, block: Block, port: int) -> None:
    done = stage.run(differing(block.text, port), block.language, port)
    assert done.returncode == 0, (
        f"README line {block.line}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    )
    assert "Traceback" not in done.stderr


@over(argvalues=FAST)
def test_a_block_runs_as_it_is_written(stage: Stage, service: Server, block: Block):
    run(stage, block, service.port)


@pytest.mark.skipif(not is_full(), reason="GUIDE=full is not set: `make guide` runs these blocks")
@over(argvalues=LONG)
def test_a_block_that_trains_or_serves_runs_on_few_photos(
    stage: Stage, service: Server, submissions: list[bytes], block: Block
):
    """A block that does not start a service itself asks the one that runs already."""
    run(stage, block, free_port() if "make serve" in block.text else service.port)
    if "submission.csv" in block.text:
        submissions.append((stage.folder / "submission.csv").read_bytes())


@pytest.mark.skipif(not is_full(), reason="GUIDE=full is not set")
def test_the_command_line_and_the_service_hand_in_the_same_bytes(stage: Stage, submissions: list[bytes]):
    """The last test of the competition's blocks: one that ran before has left what is compared here."""
    by_command, by_service = submissions
    assert by_command == by_service
    assert by_service.count(b"\n") == (stage.folder / "data" / "test.csv").read_bytes().count(b"\n")


@over(argvalues=DOCKER_BLOCKS)
def test_a_container_block_runs_where_an_engine_runs(stage: Stage, block: Block):
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no container engine runs here; tests/docker/test_compose.sh starts the same file where one can")
    text = re.sub(r"docker compose up", "docker compose up --detach --wait", block.text)
    try:
        run(stage, Block(block.heading, block.line, block.language, text), free_port())
    finally:
        for down in (["docker", "compose", "down", "--volumes"], ["docker", "image", "rm", f"jaguar-reid:{IMAGE_TAG}"]):
            subprocess.run(down, cwd=stage.folder, env=stage.environment(), capture_output=True)


@over(argvalues=SUITE_BLOCKS)
def test_targets_that_are_this_suite_exist_and_are_not_run_from_here(stage: Stage, block: Block):
    for command in block.commands:
        for target in suite_targets(command):
            done = subprocess.run(["make", "--dry-run", target], cwd=stage.folder, capture_output=True, text=True)
            assert done.returncode == 0, f"README line {block.line}: make {target}: {done.stderr}"
            assert done.stdout, f"make {target} would do nothing"


def test_every_block_is_in_one_of_these_tests():
    assert len(FAST) + len(LONG) + len(DOCKER_BLOCKS) + len(SUITE_BLOCKS) == len(BLOCKS)
    assert FAST
    assert LONG
    assert DOCKER_BLOCKS
    assert SUITE_BLOCKS


def test_no_block_that_is_run_starts_the_suite_anew():
    made = [target for block in FAST + LONG for target in re.findall(r"\bmake ([a-z-]+)", block.text)]
    assert made
    assert not any(map(is_suite, made))


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.why)
def test_every_difference_is_still_of_use(difference):
    assert any(re.search(difference.pattern, block.text, re.MULTILINE) for block in BLOCKS)


def test_the_readme_names_every_target_that_is_not_run():
    quiet = ["make", "--no-print-directory", "help"]  # where make runs this suite, it would say where it is
    helped = subprocess.run(quiet, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[0] for line in helped.splitlines()}
    named = {target for block in SUITE_BLOCKS for command in block.commands for target in suite_targets(command)}
    assert named == set(filter(is_suite, targets))
    assert named >= SUITE
    assert targets - named == {"serve", "train", "clean"}
