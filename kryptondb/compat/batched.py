"""Any function of any inputs: every window is one more evaluation of it, in batches, as Captum runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from kryptondb.compat.question import Question
from kryptondb.errors import ArgumentError


class Differences:
    """What the output loses under each window.

    Attributes:
        initial: the output with nothing occluded, [N, ...], or of any shape where the function answers a whole batch.
        done: how many windows have been computed.
    """

    def __init__(self, question: Question, initial: torch.Tensor) -> None:
        self._question = question
        self.initial = initial
        self.done = 0
        self._found: list[torch.Tensor] = []

    def __iter__(self) -> Iterator[int]:
        """Evaluates one batch of windows after the other; yields how many windows are done."""
        question, initial = self._question, self.initial.reshape(1, -1)
        places = [(number, at) for number, each in enumerate(question.windows) for at in range(each.total)]
        for start in range(0, len(places), question.per_evaluation):
            batch = places[start : start + question.per_evaluation]
            output = question.evaluate(self._occluded(batch), len(batch))
            if start == 0 and question.per_evaluation > 1:
                self._check_growth(output, len(batch))
            self._found.append(initial - output.reshape(len(batch), initial.shape[1]))
            self.done += len(batch)
            yield self.done

    def by_input(self) -> list[np.ndarray]:
        """For each input, once all is done, float64 [outputs, windows along the first dimension, ...]."""
        question, outputs = self._question, self.initial.numel()
        found = torch.cat(self._found).double().cpu().numpy() if self._found else np.zeros((0, outputs))
        parts, start = [], 0
        for each in question.windows:
            part = found[start : start + each.total].T
            parts.append(part.reshape((outputs, *each.counts[::-1])).transpose(0, *range(len(each.counts), 0, -1)))
            start += each.total
        return parts

    def _occluded(self, batch: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
        """The inputs, all examples once for each window, the window filled."""
        question = self._question
        touched = {number for number, _ in batch}
        occluded = []
        for number, (images, baseline) in enumerate(zip(question.inputs, question.baselines, strict=True)):
            copies = torch.cat([images] * len(batch)) if len(batch) > 1 or number in touched else images
            if number in touched:
                copies = copies.to(baseline.dtype, copy=len(batch) == 1)
            occluded.append(copies)
        examples = question.examples
        for position, (number, at) in enumerate(batch):
            place = (slice(None), *question.windows[number].place(at))
            occluded[number][position * examples : (position + 1) * examples][place] = question.baselines[number][place]
        return occluded

    def _check_growth(self, output: torch.Tensor, times: int) -> None:
        grows = self.initial.ndim and output.ndim and output.shape[0] == times * self.initial.shape[0]
        if not grows:
            raise ArgumentError(
                f"with perturbations_per_eval > 1 the output must grow with the batch: it is {tuple(output.shape)} for "
                f"{times * self._question.examples} examples and {tuple(self.initial.shape)} for "
                f"{self._question.examples}",
                hint="Where the function answers a whole batch with one value, perturbations_per_eval must be 1.",
            )
