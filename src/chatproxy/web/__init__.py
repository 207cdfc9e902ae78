"""What speaks HTTP: the byte path, the listeners, the pages."""
