"""Groups of generations: who is asked, how a policy generates, and how probable it finds what it generated."""
