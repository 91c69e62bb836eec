"""The main process: Celery and kombu, bent to take queue entries safely. The only room that uses their internals."""
