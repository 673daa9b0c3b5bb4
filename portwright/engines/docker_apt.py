"""The Debian archives this machine itself uses, for bootstrapping a base from the same mirrors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

APT = Path("/etc/apt")
MAIN = "main"
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")
_OPTIONS = {"arch": "Architectures", "signed-by": "Signed-By", "trusted": "Trusted"}
_KEPT = ("Architectures", "Signed-By", "Trusted")

Entry = Mapping[str, str]
"""One stanza of a deb822 sources file, its names in their usual case."""


def debian_sources(suite: str, folder: Path = APT) -> str:
    """The machine's own entries for a Debian suite, its updates and its security fixes, as a deb822 sources file.

    Empty where the machine has none for the suite itself: another release or distribution.
    """
    suites = {suite, f"{suite}-updates", f"{suite}-security", f"{suite}/updates"}
    kept: list[Entry] = []
    for entry in _entries(folder):
        named = [name for name in entry.get("Suites", "").split() if name in suites]
        # Other vendors' archives use Debian's suite names too, but hardly with `main`.
        if named and MAIN in entry.get("Components", "").split() and "deb" in entry.get("Types", "").split():
            kept.append({**entry, "Suites": " ".join(named)})
    if not any(suite in entry["Suites"].split() for entry in kept):
        return ""
    return "\n".join(_stanza(entry) for entry in kept)


def apt_proxies() -> dict[str, str]:
    """apt's own proxies as environment variables, which leave no trace in what is bootstrapped."""
    if shutil.which("apt-config") is None:
        return {}
    names = {"http_proxy": "Acquire::http::Proxy", "https_proxy": "Acquire::https::Proxy"}
    wanted = {variable: option for variable, option in names.items() if not os.environ.get(variable)}
    found = {}
    for variable, option in wanted.items():
        done = subprocess.run(
            ["apt-config", "shell", "value", option], capture_output=True, text=True, check=False
        )  # one line, value='…', or nothing
        if match := re.fullmatch(r"value='(.+)'\s*", done.stdout):
            found[variable] = match[1]
    return found


def _entries(folder: Path) -> Iterator[Entry]:
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))):
        for line in _text(path).splitlines():
            if match := _ONE_LINE.match(line.partition("#")[0].strip()):
                yield _from_line(match)
    for path in sorted((folder / "sources.list.d").glob("*.sources")):
        for block in re.split(r"\n\s*\n", _text(path)):
            entry = _from_stanza(block)
            if entry.get("Enabled", "yes").lower() not in {"no", "false", "0"}:
                yield entry


def _from_line(match: re.Match[str]) -> Entry:
    options = dict(part.split("=", 1) for part in (match["options"] or "").split() if "=" in part)
    return {
        "Types": "deb",
        "URIs": match["uri"],
        "Suites": match["suite"],
        "Components": match["components"],
        **{_OPTIONS[name]: value for name, value in options.items() if name in _OPTIONS},
    }


def _from_stanza(block: str) -> dict[str, str]:
    entry: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in {" ", "\t"} and name:
            # A signing key may be written out, over many lines.
            entry[name] += f"\n{line}"
        elif ":" in line:
            name, _, value = line.partition(":")
            name = {"uris": "URIs"}.get(name.lower(), name.strip().title())
            entry[name] = value.strip()
    return entry


def _stanza(entry: Entry) -> str:
    first = {"Types": "deb", "URIs": entry["URIs"], "Suites": entry["Suites"], "Components": MAIN}
    rest = {name: entry[name] for name in _KEPT if name in entry}
    return "".join(f"{name}: {value}\n" for name, value in {**first, **rest}.items())


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
