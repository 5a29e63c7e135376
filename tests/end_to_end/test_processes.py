"""What only whole processes show: starting, pipes, Ctrl-C, two at once on one database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kryptondb
from tests.patience import PATIENCE, until

COMMAND = [sys.executable, "-m", "kryptondb"]
ROOT = Path(kryptondb.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*argv: str, **named: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [*COMMAND, *argv],
        env=ENVIRONMENT,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **named,
    )


def test_the_version_imports_nothing_heavy():
    script = (
        "import sys, kryptondb.cli\n"
        "try: kryptondb.cli.main(['--version'])\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'pyarrow', 'numpy', 'rich', 'lark', 'prompt_toolkit')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == [f"kryptondb {kryptondb.__version__}", "[]"]


@pytest.mark.slow
def test_a_reader_that_leaves_early_ends_the_command_quietly():
    with start("--format", "csv", "-c", "SHOW SETTINGS; SHOW SAMPLES") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) in (0, 141)


@pytest.fixture
def database(work: Path, exported: Path) -> str:
    with kryptondb.connect("pets.krypton") as session:
        session.sql(f"CREATE MODEL net FROM '{exported}' WITH (size => 32)")
    return "pets.krypton"


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
@pytest.mark.skipif(signal.getsignal(signal.SIGINT) == signal.SIG_IGN, reason="a job in the background ignores Ctrl-C")
def test_ctrl_c_ends_a_query_with_130_and_leaves_the_database_sound(database, work):
    query = "SELECT HEATMAP FROM occlude(net, $images, patch => 4, stride => 1)"
    many = f"images=({', '.join(['scans'] * 2000)})"
    with start(database, "--format", "json", "-c", query, "--param", many, "-o", "out.json") as process:
        until(lambda: any(path.stat().st_size for path in work.glob(".out.json*")), "the first rows")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [path.name for path in work.iterdir() if "out.json" in path.name] == []
    with kryptondb.connect(database) as session:
        assert session.database.models.names() == ["net"]


@pytest.mark.slow
def test_two_processes_use_one_database_at_once(database):
    query = "SELECT HEATMAP FROM occlude(net, 'scans/0.png', patch => 8); SET threads = 2; SHOW MODELS"
    with start(database, "--format", "json", "-c", query) as other, kryptondb.connect(database) as session:
        rounds = 0
        while other.poll() is None or rounds < 5:
            session.sql("SET on_error = 'stop'; SET on_error = 'continue'")
            assert session.database.models.names() == ["net"]
            assert session.sql(query.split(";")[0]).arrow().num_rows == 1
            rounds += 1
            time.sleep(0.25)
        out, err = other.communicate(timeout=PATIENCE)
        assert (other.returncode, err) == (0, "")
        assert [json.loads(line).get("name") for line in out.splitlines()] == [None, "net"]
        assert session.database.settings.get("threads") == 2
