"""Bare streaming pass-throughs: ``python -m stacks.NAME PORT UPSTREAM_PORT``."""
