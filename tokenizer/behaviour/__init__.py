"""Item similarity from user behaviour: co-occurrence vectors, item pairs, and the alignment of content with those pairs."""
