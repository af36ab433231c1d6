"""Health checks of the active node: when they are made, what they come to, and what is done about it."""
