"""The generated parts of the site: the grammar as diagrams, regions and tiles as drawings, and notebooks."""
