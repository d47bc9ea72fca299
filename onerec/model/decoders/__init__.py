"""From encoder states to codes: the two decoders, and looking ahead to the items behind a code."""
