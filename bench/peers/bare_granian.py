"""The bare loop on granian, configured exactly as ``fileupload serve`` configures it: ``bare_granian PORT``."""

from __future__ import annotations

import sys

from bench.peers.bare import make_app
from fileupload.server.granian import ServerOptions, serve

if __name__ == "__main__":
    serve(make_app, ServerOptions(port=int(sys.argv[1])), announce=lambda address: None)
