"""Generic building blocks without models and without words of the domain."""
