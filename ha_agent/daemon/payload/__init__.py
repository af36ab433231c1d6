"""The files that programs need besides their confs: replicated from the active node, beside the registry and after it."""
