"""The registry's programs on this node: what may be loaded, loading it, running, ending and judging it."""
