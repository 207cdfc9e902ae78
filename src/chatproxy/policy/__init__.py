"""Which part of a turn may be kept, on which grounds, until when, and for which purposes: a pure function."""
