"""benchmarks.many_images watches the memory of a batch."""

from __future__ import annotations

from benchmarks import many_images
from benchmarks.many_images import Watched, watch
from kryptondb.process.memory import Resident
from tests.patience import until


def test_both_runs_have_a_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(many_images, "GROWTH", 1 << 40)  # what comes first is not used up after six pictures
    path = tmp_path / "RESULTS.md"
    assert many_images.main(["--images", "6", "--markdown", str(path)]) == 0
    assert "COPY to Parquet files" in capsys.readouterr().out
    assert "| rows one by one | 6 |" in path.read_text()


def test_memory_that_grows_is_told_by_the_exit_status(monkeypatch):
    grown = Watched("net", 10, 1.0, 100 << 20, 200 << 20)
    monkeypatch.setattr(many_images, "runs", lambda *_: [grown])
    assert not grown.sound and many_images.main([]) == 1


def test_memory_that_work_keeps_is_seen(monkeypatch):
    held, looked = [100 << 20], []  # bytes: what a process really has depends on what it has let go before
    monkeypatch.setattr(many_images, "resident_memory", lambda: (looked.append(None), Resident(held[0], held[0], 0))[1])

    def work() -> int:
        for _ in range(60):
            held[0] += 1 << 20
            before = len(looked)
            until(lambda before=before: len(looked) > before, "a look at the memory")
        return 60

    assert not watch("keeps", work).sound


def test_memory_that_stays_as_it_is_is_sound(monkeypatch):
    looked = []
    monkeypatch.setattr(many_images, "resident_memory", lambda: (looked.append(None), Resident(9, 9, 0))[1])

    def work() -> int:
        until(lambda: len(looked) > 20, "looks at the memory")
        return 60

    assert watch("keeps nothing", work).sound
