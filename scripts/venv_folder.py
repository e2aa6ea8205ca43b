# SPDX-License-Identifier: Apache-2.0
"""The folder .venv: what is in it, whether it was made here, and how it is removed.

The note .venv/road_seg.json says what was installed. It is also the mark of a .venv that was made here: one without it,
another user's, or one behind a link is never changed.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NOTE = VENV / "road_seg.json"


class Failed(Exception):
    """A step failed; the message says what to do."""


class Hopeless(Failed):
    """Making .venv anew would not help: what is wanted cannot be had, or .venv is not to be touched."""


def say(sentence):
    print("[environment] " + sentence, flush=True)


def noted():
    try:
        note = json.loads(NOTE.read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def write_note(note):
    beside = NOTE.with_suffix(".part")
    beside.write_text(json.dumps(note, indent=2) + "\n")
    beside.replace(NOTE)


def check_ours():
    """Raises Hopeless where .venv is not one that may be changed: not made here, behind a link, or another user's."""
    do = "Move it away, or use another checkout, and call make again."
    if VENV.is_symlink():
        raise Hopeless(f"{VENV} is a link to {os.path.realpath(VENV)}, and make changes nothing behind a link. {do}")
    if os.path.lexists(VENV) and not VENV.is_dir():
        raise Hopeless(f"{VENV} is not a folder, and make puts its environment there. {do}")
    try:
        # By what a new file gets: some file systems give every file to the same user.
        with tempfile.TemporaryFile(dir=ROOT) as file:
            us = os.fstat(file.fileno()).st_uid
    except OSError as error:
        raise Hopeless(f"make keeps its environment in {VENV}, but cannot write in {ROOT}: {error.strerror}.") from None
    if not VENV.is_dir():
        return
    if VENV.stat().st_uid != us:
        raise Hopeless(f"{VENV} belongs to another user, {owner(VENV)}, so make does not change it. {do}")
    if any(VENV.iterdir()) and not NOTE.is_file():
        raise Hopeless(f"{VENV} was not made by make, so make leaves it alone. {do}")


def owner(path):
    try:
        return path.owner()
    except KeyError:  # a user of another machine or container
        return f"number {path.stat().st_uid}"


def remove_venv():
    """Removes a .venv that was made here, its mark last, so that one whose removal broke off is known too."""
    check_ours()
    if not VENV.is_dir():
        return
    if NOTE.exists():
        write_note({})
    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != NOTE:
            entry.unlink()
    if NOTE.exists():
        NOTE.unlink()
    VENV.rmdir()
