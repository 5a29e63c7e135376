"""Ways to compute a convolution: which there are, how weights are prepared for them, and when they are accurate."""
