"""As ``asgi_connector``, served by granian."""

from granian import Granian
from granian.constants import Interfaces, Loops

from stacks.serving import PORT

if __name__ == "__main__":
    Granian(
        "stacks.asgi_connector:app",
        port=PORT,
        interface=Interfaces.ASGINL,
        loop=Loops.uvloop,
        workers=1,
        log_enabled=False,
        websockets=False,
    ).serve()
