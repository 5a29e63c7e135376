"""Files of published weights: from a cache where they are there, else fetched once; or a sentence that says why not."""

from __future__ import annotations

import http.client
import re
import threading
from pathlib import Path

from kryptondb.errors import ModelError

PROBE_SECONDS = 8.0  # how long a server is waited for before it is said that it cannot be reached


def torch_hub_path(url: str) -> Path:
    """Where torch keeps the file of an address."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def torch_hub_file(url: str, what: str) -> str:
    """The path of a file in torch's cache, downloaded and checked against the hash in its name where it is not there.

    torch would unpickle it; here it is only fetched, and read like any other weights file. Raises ModelError, within
    about `PROBE_SECONDS`, when the server cannot be reached.

    Args:
        what: the file in words, for the message.
    """
    import torch

    path = torch_hub_path(url)
    if path.is_file():
        return str(path)
    failure = unreachable(url)
    if failure is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
            torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=False)
            return str(path)
        except (OSError, RuntimeError, http.client.HTTPException) as error:  # network, disk, a hash that does not match
            failure = str(error) or type(error).__name__
    raise not_there(what, failure, f"put {url} into {path.parent}")


def not_there(what: str, failure: str, by_hand: str) -> ModelError:
    """The error for weights that cannot be fetched, and what else can be done."""
    return ModelError(
        f"{what} cannot be downloaded: {failure}",
        hint=f"Give weights => 'file.pth' or weights => 'random', or {by_hand}.",
    )


def unreachable(url: str) -> str | None:
    """Why a server does not answer, or None when it does. A thread, since name look-ups know no time limit."""
    import urllib.request

    answer: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "torch.hub"})
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answer.append(None)
        except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            answer.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answer[0] if answer else f"no answer within {PROBE_SECONDS:g} seconds"
