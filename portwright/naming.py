"""Names: the nearest known one for a typo, and readable slugs for folders."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from portwright.errors import UsageError

MAX_SLUG = 80


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, if one is like it at all."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence for a hint: the nearest known name, and all of them."""
    names = sorted(known)
    guess = nearest(name, names)
    listing = f"known: {', '.join(names)}" if names else "none is known"
    return f"did you mean {guess!r}? {listing}" if guess else listing


def slug(text: str) -> str:
    """A folder name that a person can read: letters, digits, dot, dash and underscore; `/` becomes `--`."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", text.replace("/", "--")).strip("-.")
    return readable[:MAX_SLUG] or "model"


def user_path(text: str) -> Path:
    """A path as a user typed it, `~` expanded; UsageError for a home that can't be found."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        why = "there is no such user, or no home directory"
        raise UsageError(f"can't expand {text!r}", why=why, hint="give a full path") from None
