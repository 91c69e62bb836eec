"""The connection: uvicorn's protocol, slow clients, bodies, middleware. Only this room uses uvicorn's internals."""
