"""The one exception that means "the input is wrong, and here is what to do about it"."""


class UserError(Exception):
    """Something the user gave us (a file, a column, a config key) cannot be used.

    The message is one or two sentences that name the file, row, column or key and say what to do. The command line prints
    it without a traceback and exits with status 2.
    """
