"""The prompt: what a line does (shell), when it is complete (lines), its colours (lexer), its completions and history.

Only `kryptondb.repl` ties these to a terminal, so each of them is tested without one.
"""
