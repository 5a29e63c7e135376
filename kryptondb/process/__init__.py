"""What holds for the whole process: torch's settings while KryptonDB works, and signals that end it."""
