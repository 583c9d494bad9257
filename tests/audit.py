"""Asks a vulnerability service about every package in some environments.

    python tests/audit.py .venv .venv-dev [-- -s osv]

What stands behind `--` is for pip-audit, which does the asking. Versions are asked for without what a local build adds
to them (`+cpu`). Exit 0 where nothing is known against any package, 1 where something is, and 2 where not all of them
could be asked about: an audit that did not take place is not a clean one.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
SHOWN = 5


class NotAuditedError(Exception):
    """Why not all packages could be asked about, in a sentence."""


def normal(name: str) -> str:
    """A package's name as indexes compare it. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(environment: Path) -> dict[str, str]:
    """Names -> versions of what an environment holds, without this project itself. Raises NotAuditedError."""
    places = [str(place) for place in environment.glob("lib/python*/site-packages")]
    if not places:
        raise NotAuditedError(f"there is no environment {environment}; `make {environment}/ready` makes it")
    found = {normal(package.name): package.version.partition("+")[0] for package in distributions(path=places)}
    found.pop(own_name(), None)
    return found


def own_name() -> str:
    return normal(tomllib.loads(PYPROJECT.read_text())["project"]["name"])


def named() -> set[str]:
    """The packages that pyproject.toml names, in its dependencies and its extras."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    every = [project["dependencies"], *project["optional-dependencies"].values()]
    return {normal(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for lines in every for line in lines} - {own_name()}


def ask(packages: dict[str, str], arguments: list[str]) -> list[dict[str, Any]]:
    """What pip-audit found out about each package. Raises NotAuditedError."""
    if importlib.util.find_spec("pip_audit") is None:
        raise NotAuditedError("pip-audit is not installed; pip install 'jaguar-reid[dev]' brings it")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in sorted(packages.items()))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--no-deps", "--disable-pip"]
        shown = ["--format", "json", "--progress-spinner", "off", "--desc", "off"]
        done = subprocess.run([*command, *shown, *arguments], capture_output=True, text=True, check=False)
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError, TypeError) as error:
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1].partition(": Max retries")[0]
        raise NotAuditedError(
            f"no vulnerability service answered ({reason[:120]}); run it where pypi.org can be reached, or ask another"
            " service with ARGS='-s osv'"
        ) from error


def report(answers: list[dict[str, Any]]) -> int:
    """Prints what is known against packages; how many have something against them. Raises NotAuditedError."""
    known = [(package, flaw) for package in answers for flaw in package.get("vulns", ())]
    for package, flaw in known:
        fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
        print(f"  {package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}")
    skipped = sorted(package["name"] for package in answers if "skip_reason" in package)
    if skipped:
        more = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
        raise NotAuditedError(
            f"the vulnerability service does not know {len(skipped)} of {len(answers)} packages"
            f" ({', '.join(skipped[:SHOWN])}{more}); run it where pypi.org itself answers, and no mirror of it"
        )
    return len({package["name"] for package, _ in known})


def audit(environments: list[Path], arguments: list[str]) -> int:
    """Asks about all environments; the exit status. Raises NotAuditedError."""
    held = {environment: installed(environment) for environment in environments}
    unseen = sorted(named().difference(*held.values()))
    if unseen:
        print(f"named in pyproject.toml, installed in none of these, and not asked about: {', '.join(unseen)}")
    against = 0
    for environment, packages in held.items():
        print(f"{environment}: {len(packages)} packages", flush=True)
        against += report(ask(packages, arguments))
    print(f"something is known against {against} packages" if against else "nothing is known against any of them")
    return 1 if against else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environments", nargs="+", type=Path)
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    try:
        sys.exit(audit(options.environments, words[end + 1 :]))
    except NotAuditedError as error:
        print(f"The audit did not take place: {error}.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
