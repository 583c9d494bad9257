"""A disk that can be full: a small tmpfs of its own where this process may mount one."""

import resource
import subprocess
from contextlib import suppress
from pathlib import Path


class Disk:
    """A folder with little room. `how` says what makes it full."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._ballast = folder / "ballast"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)], capture_output=True, text=True
        )
        self.mounted = done.returncode == 0
        self.how = f"a tmpfs of {mib} MiB" if self.mounted else f"RLIMIT_FSIZE (no mount here: {done.stderr.strip()})"

    def fill(self, pid: int) -> None:
        """Not a byte more for this process: the disk is full, or else its files may not grow."""
        if not self.mounted:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
            return
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self, pid: int) -> None:
        if not self.mounted:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
