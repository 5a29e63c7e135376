"""A fuzz of every decoder: damaged picture files give a picture or an ImageError, and nothing else.

    python -m benchmarks.fuzz_images --cases 5000

Case `i` of a seed is always the same file. It is decoded in a process of its own kind, so that a decoder that ends the
process, runs forever or takes all memory is a line of the report and not the end of it.
"""
