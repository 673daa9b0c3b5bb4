"""Stand-ins for what only a vendor hands out: a tiny wheel, a tiny tar, and a toolchain that takes them."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portwright.digests import digest_file
from portwright.project import this_project
from portwright.target_file import ArchiveSpec
from portwright.toolchain import Toolchain
from portwright.vendor import PresentArchive

DOCKER = this_project().docker


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """A pure Python wheel of `files`."""
    information = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: absent\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_record(text)},{len(text)}\n" for path, text in content.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name_inside, text in {**content, f"{information}/RECORD": record}.items():
            wheel.writestr(zipfile.ZipInfo(name_inside), text)
    return path


def _record(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def make_tar(path: Path, files: Mapping[str, str]) -> Path:
    """A gzipped tar of `files`, all of them programs."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def present(path: Path, name: str, kind: str, **more: Any) -> PresentArchive:
    """An archive as if a target declared it and its digest had been compared."""
    spec = ArchiveSpec.model_validate(
        {
            "name": name, "kind": kind, "file": path.name, "sha256": digest_file(path),
            "title": "a stand-in", "version": "1.0", "licence": "ours", "source": "here", "toolchain": "standin",
            "gives": "a test", **more,
        }
    )  # fmt: skip
    return PresentArchive(spec, path)


def stand_in_toolchain(folder: Path, archives: Sequence[PresentArchive] = (), lock: str = "") -> Toolchain:
    """A toolchain that locks `lock`, on the real base."""
    home = folder / "docker" / "standin"
    home.mkdir(parents=True, exist_ok=True)
    (home / "Dockerfile").write_text((DOCKER / "ort" / "Dockerfile").read_text())
    (home / "requirements.lock").write_text(lock)
    if not (home.parent / "base").exists():
        (home.parent / "base").symlink_to(DOCKER / "base")
    return Toolchain("standin", home, tuple(archives))
