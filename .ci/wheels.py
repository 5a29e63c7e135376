"""Checks that the wheel built from the sdist equals the wheel built from the tree, file by file."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERIC = {"grammar", "optimizer", "executor", "tests", "queries", "benchmarks", "docs"}


def build(kind: str, source: Path, target: Path) -> Path:
    """Builds one distribution with the installed build backend, and gives its path."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(target), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def main() -> None:
    """Builds both wheels and compares them."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        from_tree = contents(build("wheel", ROOT, work / "tree"))
        with tarfile.open(build("sdist", ROOT, work / "sdist")) as archive:
            archive.extractall(work / "unpacked", filter="data")
        (unpacked,) = (work / "unpacked").iterdir()
        from_sdist = contents(build("wheel", unpacked, work / "again"))
    differing = sorted(
        name for name in from_tree.keys() | from_sdist.keys() if from_tree.get(name) != from_sdist.get(name)
    )
    if differing:
        sys.exit("the wheels from the tree and from the sdist differ in: " + ", ".join(differing))
    tops = {name.split("/")[0] for name in from_tree}
    if tops & GENERIC or "kryptondb/grammar/occlude.lark" not in from_tree:
        sys.exit(f"the wheel's top level is {sorted(tops)}: generic names must stay out, the grammar in")
    print(f"wheel from tree == wheel from sdist: {len(from_tree)} files")


if __name__ == "__main__":
    main()
