"""What the daemon can be asked: one table of operations, and the handlers behind it."""
