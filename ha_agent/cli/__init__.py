"""The command line. Talks to the daemon through the control socket alone."""
