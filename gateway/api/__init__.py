"""HTTP routes: requests in, responses out, and the table of statuses."""
