"""What the benchmarks of serving are made of: the servers, the ceiling, the client, and the table."""
