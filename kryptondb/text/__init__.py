"""What every room writes texts with: quantities in words, and text that a terminal can have."""
