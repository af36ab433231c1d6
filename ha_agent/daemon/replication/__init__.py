"""The registry: what it holds here, sending it, receiving it, editing it."""
