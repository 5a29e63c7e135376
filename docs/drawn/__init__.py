"""What the site shows and nobody wrote by hand: the grammar as diagrams, regions and tiles as drawings, notebooks."""
