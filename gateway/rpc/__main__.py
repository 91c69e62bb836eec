"""`python -m gateway.rpc`: serve gRPC until a signal."""

import os
import sys
from importlib.util import find_spec

from gateway.__main__ import serve
from gateway.rpc.settings import GrpcSettings
from gateway.web.slow_clients import raise_file_limit
from headrace.errors import HeadraceError
from shared.broker_check import check_broker
from shared.observability.logs import set_up_logging
from shared.settings import load_settings

MISSING = "headrace: gRPC needs the packages grpcio and protobuf, which `make up` installs in a clone of the project"


def main() -> None:
    """Read the settings, and serve."""
    if find_spec("grpc") is None or find_spec("google") is None or find_spec("google.protobuf") is None:
        sys.exit(MISSING)
    # Its library would write a line for each malformed call.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imported here: the group `grpc` of libraries is optional.
    from gateway.rpc.app import create_app

    settings = load_settings(GrpcSettings)
    over_http = {
        "gateway_host": settings.grpc_metrics_host,
        "gateway_port": settings.grpc_metrics_port,
        "gateway_processes": 1,
    }
    settings = settings.model_copy(update=over_http)
    set_up_logging("gateway", settings.log_level, settings.log_format)
    check_broker(settings.redis_url)
    raise_file_limit(settings.connections_max)
    try:
        app = create_app(settings)
    except HeadraceError as error:
        sys.exit(f"headrace: {error}")
    serve(settings, app)


if __name__ == "__main__":
    main()
