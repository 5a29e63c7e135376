"""The peers' own tests of occlusion, run against the drop-ins: only the import differs.

    python -m benchmarks.peer_tests --captum FOLDER --monai FOLDER

The folders hold checkouts of Captum and MONAI, or bare repositories of them; MONAI's tests need the package
parameterized. They are not copied.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

#: Of each peer: its test, the import that is replaced, and what by.
TESTS = {
    "captum": (
        "tests/attr/test_occlusion.py",
        "from captum.attr._core.occlusion import Occlusion",
        "from kryptondb.compat.captum import Occlusion",
    ),
    "monai": (
        "tests/visualize/test_occlusion_sensitivity.py",
        "from monai.visualize import OcclusionSensitivity",
        "from kryptondb.compat.monai import OcclusionSensitivity",
    ),
}
_GUARD = "import kryptondb.images.torchvision_guard  # the peers import torchvision\n"


def test_of(folder: Path, path: str) -> str:
    """The text of a test, from a checkout or from the last commit of a bare repository."""
    if (folder / path).is_file():
        return (folder / path).read_text(encoding="utf-8")
    shown = ["git", f"--git-dir={folder}", "show", f"HEAD:{path}"]
    return subprocess.run(shown, check=True, capture_output=True, text=True).stdout


def replaced(text: str, theirs: str, ours: str) -> str:
    """The test with the drop-in in the place of the peer's class. Raises ValueError where it imports something else."""
    if text.count(theirs) != 1:
        raise ValueError(f"the test does not hold this once: {theirs}")
    return text.replace(theirs, ours)


def main() -> int:
    """Runs the tests; exit status 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for peer in TESTS:
        parser.add_argument(f"--{peer}", type=Path, metavar="FOLDER", help=f"a checkout of {peer}")
    chosen = vars(parser.parse_args())
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "conftest.py").write_text(_GUARD)
        for peer, (path, theirs, ours) in TESTS.items():
            if chosen[peer] is None:
                continue
            test = Path(folder) / f"test_{peer}.py"
            test.write_text(replaced(test_of(chosen[peer], path), theirs, ours), encoding="utf-8")
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, str(test)]
            print(f"{peer}: {path}", flush=True)
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            failed |= subprocess.run(command, cwd=folder, env=environment, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
