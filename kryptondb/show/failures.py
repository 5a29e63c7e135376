"""The images that a query left out: a list that is also a table."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from kryptondb.text.plain_text import plain_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from kryptondb.executor import ImageFailure

    _Base = list[ImageFailure]
else:
    _Base = list


class Failures(_Base):
    """Which images were left out and why, in the order in which that was found out."""

    def arrow(self) -> pa.Table:
        """One row an image: its name, and why it was left out. Columns image and message, strings."""
        import pyarrow as pa

        columns = [[failure.image for failure in self], [failure.message for failure in self]]
        return pa.table({"image": pa.array(columns[0], pa.string()), "message": pa.array(columns[1], pa.string())})

    def df(self) -> pd.DataFrame:
        """The same as a pandas data frame."""
        from kryptondb.show.values import require_pandas

        require_pandas()
        return self.arrow().to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows as an Arrow C stream."""
        return self.arrow().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        cells = ((escape(plain_line(failure.image)), escape(plain_line(failure.message))) for failure in self)
        rows = "".join(f"<tr><td>{image}</td><td>{message}</td></tr>" for image, message in cells)
        return f"<table><thead><tr><th>image</th><th>message</th></tr></thead><tbody>{rows}</tbody></table>"
