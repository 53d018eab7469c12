"""The long-lived process of one local endpoint: it keeps replicas alive, scales them and carries out commands."""
