"""The version of Headrace: of the package, of the images and of the metric `inference_build_info`."""

__version__ = "0.1.0"
