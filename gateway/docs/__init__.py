"""The documentation of the API: the OpenAPI documents, and the page that shows them."""
