"""The one error with which commands end: told in one line, without a traceback."""


class CommandError(Exception):
    """A command cannot go on; the message names the remedy."""
