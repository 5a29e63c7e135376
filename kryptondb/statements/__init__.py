"""What `Session.run` does for each kind of statement."""
