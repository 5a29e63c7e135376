"""How a benchmark begins and ends: on which machine it measures, and where what it found goes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console

from benchmarks.machine import describe_machine
from benchmarks.report import Sheet, command_line, console, show, write_section


@dataclass(frozen=True)
class Course:
    """A run of one benchmark.

    Attributes:
        out: where it prints.
        machine: what it runs on, by the name of each part.
        command: how to run it again.
    """

    options: argparse.Namespace
    out: Console
    machine: Mapping[str, str]
    command: str

    @classmethod
    def begin(cls, module: str, arguments: Sequence[str], options: argparse.Namespace) -> Course:
        """Gives torch as many threads as asked for, and says which machine this is."""
        if options.threads:
            torch.set_num_threads(options.threads)
        course = cls(options, console(), describe_machine(options.device), command_line(module, arguments))
        course.out.print(", ".join(f"{name} {value}" for name, value in course.machine.items()))
        return course

    def end(self, sheets: Sequence[Sheet], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Prints the tables, and writes these and what was found where the options say."""
        for sheet in sheets:
            show(self.out, sheet)
        if self.options.json:
            self.options.json.write_text(json.dumps({"machine": self.machine, **found}) + "\n")
        if self.options.markdown:
            write_section(self.options.markdown, self.command, self.machine, sheets)
