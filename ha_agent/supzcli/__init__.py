"""``supzcli``: supervisorctl for the pair. Speaks with the agent of its own node alone; the guard is there, not here."""
