"""Selection over the beam: a small scorer ranks what the generator proposes."""
