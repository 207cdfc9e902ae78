"""The transcript store: one code over the Redis protocol, from the embedded server to a remote one."""
