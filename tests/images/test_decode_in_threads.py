"""Decoding in threads leaves what is the whole process's alone."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kryptondb.images import decode
from tests.images.dicoms import write_dicom


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.dcm"])
def test_no_decoder_touches_the_warning_filters(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the process's: a thread that saves and restores them undoes what another one has set meanwhile."""
    samples = np.arange(60, dtype=np.uint8).reshape(6, 10)
    path = tmp_path / name
    if path.suffix == ".dcm":
        write_dicom(path, samples)
    else:
        Image.fromarray(samples).save(path)
    decode(path)  # what is imported on first use may do as it likes
    before = list(warnings.filters)
    replaced: list[str] = []
    monkeypatch.setattr(
        warnings.catch_warnings, "__enter__", lambda *_: replaced.append(threading.current_thread().name)
    )
    thread = threading.Thread(target=decode, args=(path,))
    thread.start()
    thread.join()
    assert replaced == []
    assert warnings.filters == before
