"""The exception of this package for unusable input."""


class TokenizerError(Exception):
    """A file, a column, an array or a setting cannot be used.

    The message names the file, row, column or setting and says what to do. The command line prints it without a traceback.
    """
