"""HAProxy as the router of a local endpoint: its binary, its configuration and its process."""
