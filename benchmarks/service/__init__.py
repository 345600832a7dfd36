"""What the service is held to, measured: killed processes, pings, memory, garbage, and the wire's throughput."""
