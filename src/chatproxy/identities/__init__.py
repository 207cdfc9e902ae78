"""Identity that a request proves by itself: verified tokens and mapped API keys, each an ``IdentifyCaller``."""
