"""Saves one bundle and then the other to the same place, for ever: for a test that kills it.

python tests/reliability/bundle_writer.py TARGET ONE OTHER
"""

import sys
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from app.reid.bundle import MANIFEST, open_bundle, save_bundle  # noqa: E402 (the tree that this file lies in)


def main() -> None:
    target, *sources = map(Path, sys.argv[1:])
    bundles = [open_bundle(source) for source in sources]
    whole = [(one.manifest, {name: one.read(name) for name in one.manifest.files}) for one in bundles]
    print(f"saving {MANIFEST}", flush=True)
    for manifest, files in cycle(whole):
        save_bundle(target, manifest, files)


if __name__ == "__main__":
    main()
