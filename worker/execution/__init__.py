"""The pool child: tasks, batches and the transitions of jobs."""
