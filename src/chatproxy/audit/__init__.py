"""Who did what with what is kept, and proof that nobody has rewritten that since."""
