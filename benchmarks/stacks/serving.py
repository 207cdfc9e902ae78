"""Uvicorn as chatproxy runs it, for the stacks that have it in common."""

import sys

import uvicorn

PORT, UPSTREAM_PORT = (int(argument) for argument in sys.argv[1:3]) if len(sys.argv) > 2 else (0, 0)


def serve(app, loop="uvloop"):
    uvicorn.run(
        app,
        port=PORT,
        loop=loop,
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
