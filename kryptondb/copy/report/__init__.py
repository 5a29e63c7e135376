"""COPY to HTML: one page that holds everything it shows, to look through the heat maps of many images.

| option | default | meaning |
|---|---|---|
| `values` | 'drop' | or 'score': what the colors show |
| `opacity` | 0.6 | where the slider stands when the page is opened, 0 to 1 |
| `scale` | by each map | (low, high): the values at the ends of the colors, to draw all maps alike |
| `colormap` | by `values` | the name of a matplotlib color map |
| `size` | 512 | the long side of each picture, in pixels |

`cards` makes what one image needs of the query's rows; `page.html`, `page.css` and `page.js` are the page. The page is
written card by card while the query runs, into a file that appears when it is whole; one image is held at a time. What
comes from outside (names, labels, the statement) is escaped by the template engine, and the page's own policy lets no
script run but its own and nothing be fetched from anywhere.
"""

from __future__ import annotations

from kryptondb.copy.report.page import copy_report

__all__ = ["copy_report"]
