"""`serve`: broker, worker and gateway in one container, as SageMaker and KServe start it."""

import os

from headrace.errors import HeadraceError
from headrace.models.store import ModelStore
from scripts import up
from scripts.refusal import Refusal

DEFAULTS = {"GATEWAY_HOST": "0.0.0.0", "GATEWAY_PORT": "8080", "MODEL_STORE": "/opt/ml/model"}
"""Places where SageMaker looks for a server and puts a model; the environment may name others."""

UNWANTED = {
    "exporter": "nobody reaches its port in this container",
    "prometheus": "nobody reaches its port in this container",
}


def model_in(root: str, wanted: str | None) -> str:
    """Return the name of the model of a store to serve: the one that is wanted, or else the only one.

    Raises:
        Refusal: if there is none, or there are several. The example model, which `make up` trains, would hide that.
    """
    try:
        store = ModelStore(root)
        names = store.names()
        if not wanted and len(names) != 1:
            raise Refusal(f"{store.root} has {len(names)} models: DEFAULT_MODEL names the one to serve")
        return store.manifest(wanted or names[0]).name
    except HeadraceError as error:
        raise Refusal(str(error)) from None


def serve() -> int:
    """Run broker, worker and gateway until a signal; return the exit code."""
    os.environ.update({name: value for name, value in DEFAULTS.items() if not os.environ.get(name)})
    os.environ["DEFAULT_MODEL"] = model_in(os.environ["MODEL_STORE"], os.environ.get("DEFAULT_MODEL"))
    return up.prepare_and_run(UNWANTED)


if __name__ == "__main__":
    raise SystemExit(up.main(serve))
