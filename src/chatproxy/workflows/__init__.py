"""What the system does, one file a verb, with ports and core only."""
