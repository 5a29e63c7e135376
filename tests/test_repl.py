"""The prompt itself, with keys from a pipe instead of a terminal."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.layout.controls import BufferControl
from prompt_toolkit.layout.processors import TransformationInput
from prompt_toolkit.output import DummyOutput

import kryptondb
from kryptondb.prompt.completer import StatementCompleter
from kryptondb.prompt.editor import private_file, prompt_history, prompt_session, state_folder
from kryptondb.prompt.output import Output
from kryptondb.prompt.shell import Shell
from kryptondb.repl import converse
from kryptondb.show.terminal import Terminal
from tests.networks import small_network

ENTER, CTRL_C, CTRL_D, TAB = "\r", "\x03", "\x04", "\t"


@pytest.fixture
def session() -> Iterator[kryptondb.Session]:
    with kryptondb.connect() as opened:
        yield opened


@pytest.fixture
def tiny() -> Any:
    """A network of three classes."""
    return small_network()


def conversation(session: kryptondb.Session, keys: str, history: InMemoryHistory | None = None) -> str:
    """What was printed after typing the keys."""
    out = io.StringIO()
    shell = Shell(session, Output(out, None, Terminal(100, 30, False)), errors=out, mode="csv")
    with create_pipe_input() as pipe:
        pipe.send_text(keys)
        assert converse(shell, prompt_session(session, history=history, input=pipe, output=DummyOutput())) == 0
    return out.getvalue()


def test_a_statement_may_span_lines_until_the_semicolon(session):
    said = conversation(session, f"SHOW{ENTER}SETTINGS;{ENTER}{CTRL_D}")
    assert said.startswith("name,value,default")


def test_ctrl_c_clears_the_line_and_ctrl_d_leaves(session):
    said = conversation(session, f"SHOW NONSENSE{CTRL_C}SHOW PROFILES;{ENTER}{CTRL_D}")
    assert said.splitlines() == [
        "model,patch,stride,fill,class,score,device,images,recipes,exact_seconds,ssim_0.8,ssim_0.9,ssim_0.95"
    ]


def test_quit_leaves(session):
    assert conversation(session, f".quit{ENTER}") == ""


def test_what_was_typed_is_remembered(session):
    history = InMemoryHistory()
    conversation(session, f"SHOW PROFILES;{ENTER}.mode json{ENTER}{CTRL_D}", history)
    assert history.get_strings() == ["SHOW PROFILES;", ".mode json"]


def offered(session: kryptondb.Session, text: str) -> list[str]:
    """The texts that completions make of what was typed."""
    completions = StatementCompleter(session).get_completions(Document(text), CompleteEvent(completion_requested=True))
    return [text[: len(text) + completion.start_position] + completion.text for completion in completions]


def test_keywords_that_may_come_next_are_offered(session):
    assert offered(session, "SHOW S") == ["SHOW SETTINGS", "SHOW SAMPLES"]
    assert "SELECT" in offered(session, "")
    assert offered(session, "SELECT HEATMAP fr") == ["SELECT HEATMAP FROM"]


def test_models_are_offered_by_name_and_quoted_where_they_must_be(session, tiny):
    session.register("chest", tiny, size=32)
    session.register("My Model", tiny, size=32)
    assert offered(session, "DESCRIBE c") == ["DESCRIBE chest"]
    assert offered(session, "SELECT HEATMAP FROM occlude(m") == ['SELECT HEATMAP FROM occlude("My Model"']
    assert offered(session, "DROP MODEL ch") == ["DROP MODEL chest"]
    assert offered(session, "CALIBRATE chest, m") == ['CALIBRATE chest, "My Model"']


def test_labels_of_the_model_are_offered_inside_the_string(session, tiny):
    session.register("pets", tiny, size=32, labels=["cat", "dog", "it's"])
    before = "SELECT HEATMAP FROM occlude(pets, 'a.png', class => "
    assert offered(session, before + "'c") == [before + "'cat'"]
    assert offered(session, before + "'it") == [before + "'it''s'"]


def test_options_settings_values_and_columns_are_offered(session):
    before = "SELECT HEATMAP FROM occlude(m, 'a.png', "
    assert offered(session, before + "pa") == [before + "patch => "]
    assert offered(session, before + "fill => 'pa") == [before + "fill => 'patch_mean'"]
    assert offered(session, "SET th") == ["SET threads = "]
    assert offered(session, "SET on_error = 's") == ["SET on_error = 'stop'"]
    assert offered(session, "SELECT dr") == ["SELECT drop"]
    assert offered(session, "CREATE MODEL m FROM 'a.pt2' WITH (wei") == [
        "CREATE MODEL m FROM 'a.pt2' WITH (weights => "
    ]


def test_paths_and_samples_are_offered(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.png").touch()
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "notes.txt").touch()
    before = "SELECT HEATMAP FROM occlude(m, '"
    assert offered(session, before) == [before + "sample:", before + "scans/"]
    assert offered(session, before + "scans/") == [before + "scans/a.png'"]
    assert offered(session, before + "sample:coff") == [before + "sample:coffee'"]


def test_dot_commands_are_offered(session):
    assert offered(session, ".m") == [".mode"]
    assert offered(session, ".mode c") == [".mode csv"]


@pytest.mark.parametrize(
    "text",
    [
        *("'", '"', "SELECT ☃ (((", "-- sel", "$", "SET x = = ", ")))", "a => ", "COPY (SELECT"),
        "SELECT HEATMAP FROM occlude(m, '~no-such-user/",
        "SELECT HEATMAP FROM occlude(m, 'a\0/",
    ],
)
def test_completion_never_fails(session, text):
    offered(session, text)


def test_the_history_belongs_to_its_owner_alone(tmp_path):
    path = private_file(tmp_path / "state" / "kryptondb")
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert private_file(path.parent) == path


def test_without_a_folder_to_write_in_the_history_stays_in_memory(tmp_path):
    (tmp_path / "file").touch()
    assert isinstance(prompt_history(tmp_path / "file" / "state"), InMemoryHistory)


def test_the_state_folder_follows_the_system(tmp_path):
    assert state_folder({"XDG_STATE_HOME": "/x"}, "linux").as_posix() == "/x/kryptondb"
    assert state_folder({"HOME": "/home/ada"}, "linux").as_posix() == "/home/ada/.local/state/kryptondb"
    assert state_folder({"HOME": "/Users/ada"}, "darwin").as_posix().startswith("/Users/ada/Library")


def test_neither_completions_nor_the_line_itself_show_control_characters(session, tiny):
    label = "cat\x1b]0;a\x07\u202e"
    session.register("net", tiny, size=8, labels=[label, "dog", "cow"])
    text = "SELECT HEATMAP FROM occlude(net, 'a.png', class => 'c"
    event = CompleteEvent(completion_requested=True)
    found = next(StatementCompleter(session).get_completions(Document(text), event))
    assert found.text == f"{label}'" and found.display_text == "cat\\x1b]0;a\\x07\\u202e"
    prompt = prompt_session(session, output=DummyOutput())
    (processor,) = prompt.input_processors or ()
    given = TransformationInput(BufferControl(), Document(), 0, lambda at: at, [("class:string", label)], 80, 24)
    assert processor.apply_transformation(given).fragments == [("class:string", "cat�]0;a��")]


def test_a_mistake_of_ours_is_shown_without_control_characters(session, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("\x1b]0;a\x07")

    monkeypatch.setattr("kryptondb.session.Session.run", broken)
    said = conversation(session, f"SHOW SETTINGS;{ENTER}{CTRL_D}")
    assert "\x1b" not in said and "RuntimeError: \\x1b]0;a\\x07" in said
