"""The thin edges: one module for one outer thing. Foreign exceptions are translated here."""
