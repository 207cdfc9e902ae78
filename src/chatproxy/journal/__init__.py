"""What stands between capture and store: every exchange until its turn is kept, in memory and on the local disk."""
