"""Where a home is."""

from __future__ import annotations

import os


def home_path(given: str) -> str:
    """The absolute path of the home that was named, or of the user's own when none was ("")."""
    if given:
        return os.path.abspath(os.path.expanduser(given))
    import platformdirs

    return platformdirs.user_cache_dir("dfmq")
