"""The keys of WireGuard, made in Rust: private ones show only their public half and refuse pickle and copy."""

from wgengine._native import PresharedKey, PrivateKey, PublicKey

__all__ = ["PresharedKey", "PrivateKey", "PublicKey"]
