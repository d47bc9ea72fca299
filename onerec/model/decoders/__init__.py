"""From encoder states to codes: two decoders behind one interface, and lookahead to the items behind a code."""
