"""The k2i command line."""
