# SPDX-License-Identifier: Apache-2.0
"""Removes what make, the demo, builds and tools have left in the checkout, and nothing else: python3 scripts/clean.py

What might be the user's stays, with a word: a .venv that make did not make, other files in demo_output/. Standard
library only, and no syntax that an older Python cannot read.
"""

import shutil
import sys

from venv_folder import ROOT, Failed, remove_venv, say

SOURCES = ("bench", "export", "launch", "road_seg_node", "scripts", "test", "train")
OF_DEMO = ("*.log", "contact_sheet*.png", "overlay*.mp4", "*.rrd")
OF_COLCON = ("build", "install", "log")
OF_SETUPTOOLS = ("build/bdist.*", "build/lib*", "road_seg_node.egg-info")


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def clean():
    """Returns whether all of it could be removed."""
    whole = True
    try:
        remove_venv()
    except Failed as error:
        say(str(error))
        whole = False
    for name in OF_COLCON:
        if (ROOT / name / "COLCON_IGNORE").is_file():  # colcon's own mark of what it makes
            remove(ROOT / name)
    for pattern in (*OF_SETUPTOOLS, *("demo_output/" + name for name in OF_DEMO)):
        for path in ROOT.glob(pattern):
            remove(path)
    for name in ("build", "demo_output"):
        folder = ROOT / name
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        elif folder.is_dir():
            say(str(folder) + " stays: there is more in it than was made here.")
    for tag in ROOT.glob(".*_cache/CACHEDIR.TAG"):  # pytest's, mypy's and ruff's own mark
        remove(tag.parent)
    for name in SOURCES:
        for cache in [*(ROOT / name).rglob("__pycache__")]:
            remove(cache)
    return whole


if __name__ == "__main__":
    try:
        sys.exit(0 if clean() else 1)
    except OSError as error:
        say("Not all could be removed: " + str(error) + ".")
        sys.exit(1)
