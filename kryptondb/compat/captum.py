"""`captum.attr.Occlusion` with one import changed: the same attributions, incrementally where the model allows it.

    from kryptondb.compat.captum import Occlusion

    occlusion = Occlusion(model)
    attributions = occlusion.attribute(images, (3, 16, 16), strides=(3, 8, 8), target=281)
    occlusion.explanation        # 'incremental inference: float32, tiles 4 x 4, R 8.1 of 9.1 ideal; ...'

Incremental inference runs where one float tensor of images [N, C, H, W] goes in, the function needs no other arguments,
`torch.export` can trace it, and it answers image by image. It may be a module in eval mode or any function around one
(`lambda x: model(x).softmax(1)`), with outputs of any shape. Everything else runs in batches of the function itself:
other numbers of dimensions, several inputs, `additional_forward_args`, dropout or batch norm that are training, values
for a whole batch, control flow that depends on data. So does what takes a few seconds only: tracing takes some itself.

A traced network is kept as long as the function: keep the `Occlusion`, or give the module itself. It is traced anew
when its weights have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch

from kryptondb.compat.arguments import checked_call
from kryptondb.compat.attributions import answer, like
from kryptondb.compat.progress import Bar
from kryptondb.compat.tracing import Tracer
from kryptondb.errors import UnsupportedError
from kryptondb.executor.heatmaps import averaged
from kryptondb.text.plain_text import plain

__all__ = ["Occlusion"]

Arguments = ParamSpec("Arguments")

_log = logging.getLogger("kryptondb.compat")
_tracer = Tracer()


def _wrapped(attribute: Callable[Arguments, Any]) -> Callable[Arguments, Any]:
    """Captum's methods are wrapped by its log, and those that build on them (`NoiseTunnel`) call what is inside."""

    @wraps(attribute)
    def logged(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Any:
        return attribute(*args, **kwargs)

    return logged


class Occlusion:
    """How much a model's output falls when a window hides a part of its input, as a mean over the windows of each part.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014); Captum's `Occlusion`.

    Attributes:
        forward_func: the function that is explained: inputs, and perhaps additional arguments -> a tensor [N, ...], or
            one value for the whole batch.
        explanation: what the last call of `attribute` ran, and why; also logged to 'kryptondb.compat' at INFO.
    """

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        self.forward_func = forward_func
        self.explanation = ""

    @property
    def multiplies_by_inputs(self) -> bool:
        """True, as Captum says of its own: attributions are differences of outputs, not slopes."""
        return True

    def has_convergence_delta(self) -> bool:
        """False: nothing is integrated that could have converged."""
        return False

    def get_name(self) -> str:
        """'Occlusion'."""
        return type(self).__name__

    @_wrapped
    def attribute(
        self,
        inputs: torch.Tensor | tuple[torch.Tensor, ...],
        sliding_window_shapes: tuple[int, ...] | tuple[tuple[int, ...], ...],
        strides: int | tuple[int, ...] | tuple[int | tuple[int, ...], ...] | None = None,
        baselines: float | torch.Tensor | tuple[float | torch.Tensor, ...] | None = None,
        target: int | tuple[Any, ...] | torch.Tensor | list[Any] | None = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        *,
        explain: bool = False,
    ) -> Any:
        """The attribution of every element of the inputs.

        Windows begin at the first element and move by the strides until everything is covered; the last ones are cut
        at the border. An element's attribution is the mean, over the windows that hold it, of the output with nothing
        occluded minus the output with the window filled.

        Args:
            inputs: a tensor, or a tuple of them: examples along the first dimension.
            sliding_window_shapes: the window, without the batch dimension; a tuple of these for several inputs.
            strides: steps, one number or one a dimension; a tuple of these for several inputs. 1 where None.
            baselines: what windows are filled with: a number, or a tensor that broadcasts to the input (so also one
                with a baseline for each example); a tuple of these for several inputs. 0 where None.
            target: the output that is explained: None where there is one an example (else all are explained, one after
                the other); an integer, a tuple, a tensor, or a list with one for each example.
            additional_forward_args: what the function takes behind the inputs, a tuple where it is several; tensors
                have examples along their first dimension.
            perturbations_per_eval: how many windows one call of the function holds, where it is called.
            show_progress: prints progress on standard error.
            explain: prints `explanation` when done.

        Returns:
            float32, of the inputs' shapes, a tuple where they were one; the first dimension counts outputs where there
            are several an example, or one for the whole batch. Of the class that the function's output has, as a
            MetaTensor with its affine.

        Raises:
            ArgumentError: an argument that fits no other; also an AssertionError, as Captum raises.
        """
        is_tuple = isinstance(inputs, tuple)
        call = checked_call(
            self.forward_func, inputs, sliding_window_shapes, strides, baselines, target, additional_forward_args,
            perturbations_per_eval,
        )  # fmt: skip
        title = f"{self.get_name()} attribution"
        with (
            torch.no_grad(),
            Bar(title, call.total, call.per_evaluation, extra=1, shown=show_progress) as progress,
        ):
            found = answer(call, _tracer, progress)
        self.explanation = found.explanation
        _log.info("%s", self.explanation)
        if explain:
            print(plain(self.explanation))
        maps = tuple(
            like(torch.from_numpy(averaged(values, each.coverages())).to(given.device), found.model)
            for values, each, given in zip(found.differences, call.windows, call.inputs, strict=True)
        )
        return maps if is_tuple else maps[0]

    def attribute_future(self, *args: object, **kwargs: object) -> None:
        """Captum's Occlusion has none either.

        Raises:
            UnsupportedError: always; also a NotImplementedError, as Captum raises.
        """
        raise UnsupportedError("attribute_future is not implemented for Occlusion", hint="attribute() is.")
