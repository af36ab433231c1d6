"""The dashboard: a process of its own, a client of the agent's control socket, and nothing that the agent depends on."""
