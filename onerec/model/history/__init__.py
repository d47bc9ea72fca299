"""From a user's events to encoder states: one token per item, tokens before the history, and the encoder itself."""
