"""From a user's events to encoder states: one token per item, tokens before the history, the encoder."""
