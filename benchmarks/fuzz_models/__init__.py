"""Fuzzes everything that a session reads from a model's or a stranger's files: each case is taken or refused.

`python -m benchmarks.fuzz_models --cases 10000` damages sound exported programs, ONNX files, weights, databases and
records of folders, and reads them as a session does. What is neither taken nor refused by an error of KryptonDB's own,
what ends the process, hangs, needs more memory than its bound, changes other tensors of the process, or gives another
answer than its sound file although nothing in it is known to have changed, is wrong.
"""
