"""Qualcomm chips by the SoC model id that the compiler is given.

Ids are Qualcomm's own `Qnn_SocModel_t` (QnnTypes.h of the QAIRT SDK). Architecture and VTCM, the NPU's own memory, are
those of the tables that Qualcomm contributed to ExecuTorch and LiteRT, and of Qualcomm AI Hub; where a figure is in
none of them the note says so. Nothing was verified on a chip here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One system on a chip."""

    soc_model: str
    name: str
    title: str
    """What it is sold as."""
    htp_arch: int
    """Hexagon's architecture: 73 for v73."""
    vtcm_mb: int
    """Mebibytes of VTCM that a graph may use."""
    note: str = ""
    """What is not confirmed about this line."""


CHIPS = {
    chip.soc_model: chip
    for chip in (
        Chip(soc_model="36", name="SM8450", title="Snapdragon 8 Gen 1", htp_arch=69, vtcm_mb=8),
        Chip(soc_model="43", name="SM8550", title="Snapdragon 8 Gen 2", htp_arch=73, vtcm_mb=8),
        Chip(soc_model="57", name="SM8650", title="Snapdragon 8 Gen 3", htp_arch=75, vtcm_mb=8),
        Chip(
            soc_model="60",
            name="SC8380XP",
            title="Snapdragon X Elite",
            htp_arch=73,
            vtcm_mb=8,
            note="VTCM size not confirmed",
        ),
        Chip(soc_model="69", name="SM8750", title="Snapdragon 8 Elite", htp_arch=79, vtcm_mb=8),
        Chip(soc_model="87", name="SM8850", title="Snapdragon 8 Elite Gen 5", htp_arch=81, vtcm_mb=8),
        Chip(
            soc_model="88",
            name="SC8480XP",
            title="Snapdragon X2 Elite",
            htp_arch=81,
            vtcm_mb=8,
            note="id, architecture and VTCM size not confirmed",
        ),
    )
}


def find(soc_model: str) -> Chip:
    """The chip of an id, or of `id:name:architecture:VTCM` for one that isn't listed; ValueError says what is known.

    The compiler takes ids of chips without an NPU as well, and makes something of them: so none is guessed.
    """
    if soc_model in CHIPS:
        return CHIPS[soc_model]
    parts = soc_model.split(":")
    if len(parts) == 4 and parts[0].isdecimal() and parts[1].isalnum() and all(map(_number, parts[2:])):  # noqa: PLR2004
        number, name, arch, vtcm = parts
        name = name.upper()
        if number in CHIPS:
            raise ValueError(f"SoC model {number} is listed: give its id alone")
        note = "named by the recipe, not confirmed"
        return Chip(soc_model=number, name=name, title=name, htp_arch=int(arch), vtcm_mb=int(vtcm), note=note)
    known = ", ".join(f"{chip.soc_model} ({chip.name}, {chip.title}, v{chip.htp_arch})" for chip in CHIPS.values())
    raise ValueError(
        f"unknown SoC model {soc_model!r}; known: {known}; another one as 'id:name:architecture:VTCM in MB', "
        "like '85:SM8735:79:8'"
    )


def _number(text: str) -> bool:
    return text.isdecimal() and int(text) > 0
