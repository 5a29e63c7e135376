"""The pictures of the executor's tests."""

from tests.executor.conftest import folder, picture

__all__ = ["folder", "picture"]
