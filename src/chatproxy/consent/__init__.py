"""What each person has chosen: the ledger of choice events, and the cache that lookups go through."""
