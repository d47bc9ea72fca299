"""The generator: an item-level encoder, a code-level decoder, and the recommenders that decode with them."""
