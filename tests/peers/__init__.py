"""Real WireGuard programs: how they are built, started, configured, watched and loaded."""
