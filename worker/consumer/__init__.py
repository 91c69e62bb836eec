"""The main process: Celery and kombu, adapted to take queue entries safely. Only this room uses their internals."""
