"""`python -m gateway`: serve until a signal ends it."""

import sys

import uvicorn

from gateway.app import create_app
from gateway.settings import GatewaySettings
from shared.errors import ModelError
from shared.logs import set_up_logging
from shared.settings import load_settings

GRACEFUL_SECONDS = 10
"""How long open requests may finish when the gateway stops."""


def main() -> None:
    """Read the settings and run uvicorn."""
    settings = load_settings(GatewaySettings)
    set_up_logging("gateway", settings.log_level)
    try:
        app = create_app(settings)
    except ModelError as error:
        sys.exit(f"millrace: {error}")
    uvicorn.run(
        app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
    )


if __name__ == "__main__":
    main()
