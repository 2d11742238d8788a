"""What a verb that holds keys does for them before it holds any."""

from wgengine.cli import outcome


def keep_secret() -> None:
    """No core file of this process, nor of programs that it starts; nobody but root looks into its memory."""
    from wgengine._native import keep_secret

    try:
        keep_secret()
    except OSError as error:  # a sandbox that is stricter than we know: the tunnel matters more
        outcome.complain(f"keys may get into core files: {error}")
