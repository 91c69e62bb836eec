"""Paths of the HTTP API."""

from urllib.parse import quote

from headrace.client.errors import ClientMisused


def path_of(resource: str, model: str | None, version: str | None) -> str:
    """Return the path of a resource of a model or version, or of the default model.

    Raises:
        ClientMisused: if there is a version without a model, or a name that would change the path.
    """
    if model is None:
        if version is not None:
            raise ClientMisused("version needs model: versions belong to a model")
        return f"/{resource}"
    return f"{model_path(model, version)}/{resource}"


def model_path(name: str, version: str | None) -> str:
    """Return the path of a model or version.

    Raises:
        ClientMisused: if a name would change the path.
    """
    base = f"/models/{segment(name)}"
    return base if version is None else f"{base}/versions/{segment(version)}"


def segment(name: str) -> str:
    """Return a name as one segment of a path.

    Raises:
        ClientMisused: if it would change the path.
    """
    if name in ("", ".", ".."):
        raise ClientMisused(f"{name!r} is no name of a model or version, and no id of a job")
    return quote(name, safe="")
