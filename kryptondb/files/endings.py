"""The format that the ending of a file's name means: the same one for COPY and for the command line's -o."""

from __future__ import annotations

from pathlib import Path

#: The format of each ending. `arrow` is the Arrow IPC file, whose batches can be found; `arrows` is the stream.
ENDINGS = {
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".arrows": "arrows",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".png": "png",
    ".html": "html",
    ".htm": "html",
    ".dcm": "dicom",
    **dict.fromkeys((".txt", ".text", ".log", ".out", ".md"), "table"),
}


def format_of(path: str) -> str | None:
    """The format of a file by the ending of its name; None where the name has none that means one."""
    return ENDINGS.get(Path(path).suffix.casefold())


def suggested_path(path: str) -> str | None:
    """A path with a name before its ending, where it has none: 'result.csv' for '.csv', which is a hidden file.

    None for any other path.
    """
    name = Path(path).name
    return str(Path(path).with_name(f"result{name}")) if name.casefold() in ENDINGS else None
