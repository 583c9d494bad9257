"""Where the test of the README's blocks departs from what the README says, and why. Everything else is run as it is.

* environments: `.venv` and `.venv-dev` of the scratch copy lead to those that are here, so that nothing is installed
  anew. With `make guide`, `.venv` is the one that make has just brought up to date, by the rule that `make serve` has;
  in `make test` it has the packages that the tests run with.
* PORT, in the environment, which the Makefile reads: a free one.
* CONFIG, in the environment, which the Makefile reads: training/configs/convnext_atto.toml with the values of TINY.
  Photos, steps and epochs are few; the network, its start and the road are the same.
* IMAGE_TAG and COMPOSE_PROJECT_NAME, in the environment: the container block leaves images and volumes of others alone.
* photos: a.jpg, b.jpg, photos/, data/ and animals/ are drawn coats; jaguar-re-id.zip holds them as the competition's
  zip holds its own.
"""

import re
from dataclasses import dataclass

# (table, key): value, over training/configs/convnext_atto.toml.
TINY: dict[tuple[str, str], object] = {
    ("preprocess", "size"): 64,
    ("sampler", "identities"): 3,
    ("sampler", "photos"): 2,
    ("sampler", "steps"): 2,
    ("optim", "epochs"): 1,
    ("optim", "warmup_epochs"): 0,
}


@dataclass(frozen=True)
class Difference:
    """What a regular expression finds in a block is replaced. It must find something somewhere in the README."""

    pattern: str
    replacement: str
    why: str


DIFFERENCES = (
    Difference(r"localhost:8000", "localhost:$PORT", "the port is a free one"),
    Difference(r"make serve(?: &)?(?=\s*(?:#.*)?$)", "until_ready make serve", "it goes on when ready"),
    Difference(r"optim\.epochs=\d+", "optim.epochs=2", "an hour less"),
)

# Blocks are run by `make test`, but for those that train or install: `make guide` runs them.
SLOW = re.compile(r"\bmake (?:serve|train)\b|\bjaguar-train\b")
# Run where an engine runs. .ci/run also starts the same compose file with tests/docker/test_compose.sh.
DOCKER = re.compile(r"^docker ", re.MULTILINE)
# Targets that are this suite, and with them all `bench-` ones, which measure the machine: `make --dry-run` shows that
# they are there.
SUITE = frozenset(
    {
        "check",
        "test",
        "guide",
        "reliability",
        "soak",
        "test-browser",
        "docker-test",
        "fuzz",
        "audit",
        "default-model",
        "help",
    }
)


def differing(text: str, port: int) -> str:
    """A block as it is run."""
    for difference in DIFFERENCES:
        text = re.sub(difference.pattern, difference.replacement, text, flags=re.MULTILINE)
    return text.replace("$PORT", str(port))


def is_suite(target: str) -> bool:
    """Whether a target is not run from here."""
    return target in SUITE or target.startswith("bench-")


def suite_targets(command: str) -> list[str]:
    """`make check test` -> [check, test], where none of them is run from here; else nothing."""
    words = command.split()
    return words[1:] if words[0] == "make" and len(words) > 1 and all(map(is_suite, words[1:])) else []
