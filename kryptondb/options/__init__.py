"""Every option of the language, declared once: its name, what it takes, its default and one line of documentation.

`tables` has the rows. `reader` binds them from a statement or from Python; `reference` writes them down for the site.
The room uses `grammar` alone, so that every other room may use it.
"""
