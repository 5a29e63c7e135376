"""Where the command line's results go."""

from __future__ import annotations

import io

from kryptondb.prompt.output import Output
from kryptondb.result import Result
from kryptondb.show.terminal import Terminal
from tests.test_result import MAPS, FakeRun


def test_a_document_is_written_as_it_is_on_one_line() -> None:
    out = io.StringIO()
    result = Result(lambda: FakeRun(MAPS), document='{\n "plan": 1\n}')
    Output(out, None, Terminal(None, None, False)).write(result, "json")
    assert out.getvalue() == '{"plan": 1}\n'
