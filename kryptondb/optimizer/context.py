"""What the rules may ask of the rest of the database while they plan one statement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kryptondb.catalog import ModelStore, Settings
    from kryptondb.optimizer.cost import Rates
    from kryptondb.optimizer.operator import Operator
    from kryptondb.optimizer.profile import Profile


@dataclass(frozen=True)
class Context:
    """Models by name, session settings, bound parameters, a device's rates, the operators there are, and profiles.

    `profiles` gives that of a fingerprint, a shape of query (`profile.query_shape`) and a torch device, or None.
    `bindings` holds Python objects: '0', '1' for `?` in order of appearance, the name for `$name`.
    """

    models: ModelStore
    settings: Settings
    bindings: Mapping[str, Any]
    rates: Callable[[str], Rates]
    operators: Sequence[type[Operator]]
    profiles: Callable[[str, Mapping[str, Any], str], Profile | None] = lambda *_: None
