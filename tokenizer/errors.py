"""The one exception of this package that means "the input is wrong, and here is what to do about it"."""


class TokenizerError(Exception):
    """Something handed to the tokenizer (a file, a column, an array, a setting) cannot be used.

    The message is one or two sentences that name the file, row, column or setting and say what to do. The command line
    prints it without a traceback.
    """
