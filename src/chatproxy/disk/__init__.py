"""Files of our own on the local disk: a place nobody else reads, one owner at a time, and what to give up when it is full."""
