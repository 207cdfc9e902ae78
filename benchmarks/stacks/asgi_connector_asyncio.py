"""As ``asgi_connector``, on the standard library's event loop."""

from stacks.asgi_connector import app
from stacks.serving import serve

if __name__ == "__main__":
    serve(app, loop="asyncio")
