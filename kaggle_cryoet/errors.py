"""The one kind of error that a user's input can cause."""


class InputError(ValueError):
    """What the user gave cannot be used; the message says what was got and what was expected.

    The command line prints the message on one line, without a traceback, and exits with status 2.
    """
