"""The prompt: what an entry does (shell), how it is typed (editor), and what Tab offers (completer).

Only `kryptondb.repl` connects these to a terminal, so that each can be tested without one.
"""
