"""Files: only regular ones of a bounded size are opened, and what is read from them is checked against a schema."""
