"""The gateway's app without a Redis."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.support.manifests import classifier, stored


def lone_gateway(folder: Path, **settings: Any) -> FastAPI:
    """Return a gateway with the model of `classifier`, whose Redis is a port on which nobody listens."""
    manifest = classifier()
    if not (folder / "models").exists():
        stored(folder / "models", manifest)
    defaults = {
        "redis_url": "redis://127.0.0.1:1/0",
        "model_store": str(folder / "models"),
        "default_model": manifest.name,
        "predict_deadline_seconds": 0.05,
    }
    return create_app(GatewaySettings(**{**defaults, **settings}))
