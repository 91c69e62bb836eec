"""Settings of the gRPC process."""

from pathlib import Path

from pydantic import Field, model_validator

from gateway.settings import GatewaySettings


class GrpcSettings(GatewaySettings):
    """Address, limits and certificates of the gRPC process, which has all settings of a gateway too."""

    grpc_host: str = "127.0.0.1"
    """Address on which the gRPC process listens."""

    grpc_port: int = Field(default=8001, ge=1, le=65535)
    """Port for gRPC."""

    grpc_metrics_host: str = "127.0.0.1"
    """Address of the gRPC process's probes and metrics, over HTTP."""

    grpc_metrics_port: int = Field(default=9201, ge=1, le=65535)
    """Port of the gRPC process's probes and metrics, over HTTP."""

    grpc_calls_max: int = Field(default=2000, ge=1)
    """Most gRPC calls at a time, half of one owner, beside 100 that need no key; one more gets RESOURCE_EXHAUSTED."""

    grpc_tls_certificate: Path | None = None
    """PEM file of the gRPC server's certificate and those of its authorities; without it gRPC is not encrypted."""

    grpc_tls_key: Path | None = None
    """PEM file of that certificate's private key."""

    grpc_tls_client_ca: Path | None = None
    """PEM file of authorities; with it, gRPC clients must show a certificate of one of them."""

    @model_validator(mode="after")
    def _files_of_tls_agree(self) -> "GrpcSettings":
        if (self.grpc_tls_certificate is None) != (self.grpc_tls_key is None):
            raise ValueError("GRPC_TLS_CERTIFICATE and GRPC_TLS_KEY belong together")
        if self.grpc_tls_client_ca is not None and self.grpc_tls_certificate is None:
            raise ValueError("GRPC_TLS_CLIENT_CA needs GRPC_TLS_CERTIFICATE")
        return self
