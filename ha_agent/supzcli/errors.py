"""What keeps a command from being done, each with its text for the user."""


class GuardRefused(Exception):
    """The agent refused; the text says why and what to do instead."""


class SupervisordSilent(Exception):
    """supervisord is there and does not answer; the text says what was tried."""


class BadUsage(Exception):
    """A command line, or a folder, that cannot be used; the text says what, where and what to do."""
