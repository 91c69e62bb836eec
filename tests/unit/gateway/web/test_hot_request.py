import pytest

from gateway.web.hot_request import match_path


@pytest.mark.parametrize(
    ("path", "template", "parameters"),
    [
        ("/predict", "/predict", {}),
        ("/models/a/predict", "/models/{name}/predict", {"name": "a"}),
        (
            "/models/a/versions/b/jobs",
            "/models/{name}/versions/{version}/jobs",
            {"name": "a", "version": "b"},
        ),
        ("/models/models/predict", "/models/{name}/predict", {"name": "models"}),
        ("/v1/models/a:predict", "/v1/models/{name}:predict", {"name": "a"}),
        (
            "/v1/models/a/versions/b:predict",
            "/v1/models/{name}/versions/{version}:predict",
            {"name": "a", "version": "b"},
        ),
        ("/v2/models/a/infer", "/v2/models/{name}/infer", {"name": "a"}),
        ("/v2/models/a/versions/b/infer", "/v2/models/{name}/versions/{version}/infer", {"name": "a", "version": "b"}),
    ],
)
def test_a_path_tells_its_template(path: str, template: str, parameters: dict[str, str]) -> None:
    assert match_path(path) == (template, parameters)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "predict",
        "*",
        "/predict/",
        "//predict",
        "/models//predict",
        "/models/a/b/predict",
        "/models/a/versions//predict",
        "/models/a/versions/b/c/predict",
        "/models/a/predict/",
        f"/models/{'a' * 512}/predict",
        "/v2/v2/models/a/infer",
        "/v2/models/a/b/infer",
    ],
)
def test_what_the_routes_do_not_match_is_left_to_them(path: str) -> None:
    assert match_path(path)[0] == ""
