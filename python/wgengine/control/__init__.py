"""The control socket of a running engine: JSON lines over a unix socket, for its user and root (docs/control.md)."""
