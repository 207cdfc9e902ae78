"""The HTTP APIs: of the person on the public listener, of the company on the admin listener."""
