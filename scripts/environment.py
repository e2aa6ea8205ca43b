# SPDX-License-Identifier: Apache-2.0
"""Prepares .venv in the checkout, then runs a command in it: python3 scripts/environment.py WHAT COMMAND ...

WHAT is `robot`, which installs what the package needs on a robot; `viewer`, also what the demo's view needs; or `all`,
also what training, export and the tests need.

- ROS 2: a sourced installation is used as it is (its NumPy and OpenCV too), else ROS 2 Jazzy is installed from PyPI.
- ONNX Runtime: the build for NVIDIA GPUs where nvidia-smi finds one, else the one for the CPU; they overwrite each
  other, so never both.

What was installed is noted in .venv, and nothing is done while it still holds; a .venv that was not made here is left
alone, see venv_folder.py. Standard library only, and no syntax that an older Python cannot read, so that its message
reaches the user.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from venv_folder import ROOT, VENV, Failed, Hopeless, check_ours, noted, remove_venv, say, write_note

REQUIREMENTS = ROOT / "requirements"
VENV_PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
OLDEST, NEWEST = (3, 10), (3, 14)
OLDEST_ROS = "jazzy"  # their names are in the order of the alphabet
# Set by a sourced ROS 2; they would lead a ROS 2 from PyPI to the other one's libraries.
ROS_VARIABLES = (
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "RMW_IMPLEMENTATION",
    "ROS_DISTRO",
)
# pip's settings that change what is installed; where from, and through which proxy, stays the user's affair.
PIP_VARIABLES = ("PIP_DRY_RUN", "PIP_EDITABLE", "PIP_NO_DEPS", "PIP_PYTHON", "PIP_REQUIREMENT")
ROS_PACKAGES = ("rclpy", "sensor_msgs", "std_srvs", "diagnostic_msgs", "nav_msgs")


def output_of(command, environ=None):
    """What a command prints, or None when it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, env=environ, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def check_python():
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        raise Failed(
            f"{sys.executable} is Python {version[0]}.{version[1]}, and this package needs 3.10 to 3.14. Install one "
            "of them and name it: make PYTHON=python3.12 ..."
        )


def check_venv():
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise Failed(
            "Python's venv module is not complete. On Debian and Ubuntu: sudo apt install python3-venv"
        ) from None


def sourced_ros():
    """The sourced ROS 2 and its rclpy's place, or "" where none is, it is too old, or this Python cannot import it."""
    distro = os.environ.get("ROS_DISTRO")
    if not distro or not os.environ.get("AMENT_PREFIX_PATH"):
        return ""
    if distro < OLDEST_ROS:
        say(f"ROS 2 {distro} is sourced, but this package needs Jazzy or newer, so ROS 2 Jazzy from PyPI is used.")
        return ""
    place = output_of([sys.executable, "-c", "import rclpy; print(rclpy.__path__[0])"])
    if place is None:
        say(
            f"ROS 2 {distro} is sourced, but {sys.executable} cannot import its rclpy, so ROS 2 Jazzy from PyPI is "
            "used. For the sourced one name the Python that it was made for: make PYTHON=/usr/bin/python3 ..."
        )
        return ""
    return f"{distro} with {place}"


def has_nvidia_gpu():
    return "GPU" in (output_of(["nvidia-smi", "-L"]) or "")


def wanted_note(what):
    """What .venv has to be: the note that is written once it is."""
    digest = hashlib.sha256()
    for path in [Path(__file__), *sorted(REQUIREMENTS.glob("*.txt"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    kind = {
        "python": f"{os.path.realpath(sys.executable)} {platform.python_version()}",
        "ros": sourced_ros(),
        "gpu": has_nvidia_gpu(),
    }
    everything = what == "all"
    return {
        "kind": kind,
        "requirements": digest.hexdigest(),
        "everything": everything,
        "viewer": everything or what == "viewer",
    }


def works():
    return output_of([str(VENV_PYTHON), "-c", "import pip"]) is not None


def make_venv(kind):
    check_venv()
    remove_venv()
    VENV.mkdir()
    write_note({})
    say(f"Making .venv with Python {platform.python_version()} ...")
    # Not the Python of a .venv that was active and is now removed.
    python = getattr(sys, "_base_executable", sys.executable) if Path(sys.prefix) == VENV else sys.executable
    command = [python, "-m", "venv", str(VENV)]
    if kind["ros"]:
        command.append("--system-site-packages")
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(kind), check=False
    )
    if done.returncode:
        raise Failed(
            "Python could not make .venv. On Debian and Ubuntu: sudo apt install python3-venv. It said: "
            + done.stdout.decode(errors="replace").strip()
        )
    # colcon would take the packages in .venv for some of the workspace.
    (VENV / "COLCON_IGNORE").touch()


def name_of(line):
    """The package that a line of a requirements file is about, or ""."""
    name = line.split("#")[0].strip()
    for end in "[=<>; ":
        name = name.split(end)[0]
    return name.lower().replace("_", "-")


def requirements_and_constraints(note):
    """The lines for pip's -r and -c."""
    kind = note["kind"]
    files = ["robot", "gpu" if kind["gpu"] else "cpu"]
    if not kind["ros"]:
        files.append("ros")
    if note["viewer"]:
        files.append("viewer")
    if note["everything"]:
        files += ["train", "dev"]
    wanted = [line for name in files for line in (REQUIREMENTS / (name + ".txt")).read_text().splitlines()]
    pinned = (REQUIREMENTS / "lock.txt").read_text().splitlines()
    if kind["ros"]:
        # The sourced ROS 2's cv_bridge and messages were built against the NumPy beside them, which has to stay:
        # cv_bridge of Jazzy does not load with NumPy 2. OpenCV 5 wants NumPy 2, 4.11 runs with both.
        numpy = output_of([str(VENV_PYTHON), "-c", "import numpy; print(numpy.__version__)"])
        if numpy:
            # rerun wants NumPy 2 as well; the demo says what to do without it.
            unwanted = ("numpy", "rerun-sdk") if numpy.startswith("1.") else ("numpy",)
            wanted = [line for line in wanted if name_of(line) not in unwanted]
            pinned = [line for line in pinned if name_of(line) != "numpy"] + ["numpy==" + numpy]
            if output_of([str(VENV_PYTHON), "-c", "import cv2"]) is not None:
                wanted = [line for line in wanted if name_of(line) != "opencv-python-headless"]
            elif numpy.startswith("1."):
                pinned = [line for line in pinned if name_of(line) != "opencv-python-headless"]
                pinned.append("opencv-python-headless==4.11.0.86")
    return wanted, pinned


def check_platform(kind):
    if not kind["ros"] and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Failed(
            f"PyPI has ROS 2 for Linux on x86-64 only, not for {platform.system()} on {platform.machine()}. Install "
            "ROS 2 Jazzy or Kilted, source its setup.bash, and call make again."
        )


def install(note):
    """Installs what `note` says, and writes it down once everything can be imported."""
    check_ours()
    write_note({**note, "requirements": "not yet installed"})
    wanted, pinned = requirements_and_constraints(note)
    (VENV / "requirements.txt").write_text("\n".join(wanted) + "\n")
    (VENV / "constraints.txt").write_text("\n".join(pinned) + "\n")
    kind = note["kind"]
    parts = [
        f"ROS 2 {os.environ['ROS_DISTRO']} as sourced" if kind["ros"] else "ROS 2 Jazzy from PyPI",
        "ONNX Runtime for NVIDIA GPUs (about 2 GB)" if kind["gpu"] else "ONNX Runtime for the CPU",
    ]
    if note["viewer"]:
        parts.append("rerun's viewer (about 230 MB)")
    if note["everything"]:
        parts.append("PyTorch (may take gigabytes) and the tools for tests")
    say(f"Installing into .venv: {', '.join(parts)}. The log is .venv/install.log.")
    command = [str(VENV_PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["-r", str(VENV / "requirements.txt"), "-c", str(VENV / "constraints.txt")]
    # Into .venv, even where the user's settings for pip say --user or name another place.
    command += ["--no-user", "--target=", "--prefix=" + str(VENV), "--root=/"]
    start = time.monotonic()
    lines = followed(command, environment(kind))
    if lines:
        raise Failed(advice("\n".join(lines)))
    check_result(kind)
    write_note(note)
    say(f"Installed in {time.monotonic() - start:.0f} s.")


def followed(command, environ):
    """Runs pip, shows what it is at, and returns its last lines if it failed, else nothing."""
    shown = time.monotonic()
    lines = []
    with LOG.open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ)
        try:
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                log.write(line + "\n")
                lines = [*lines[-14:], line]
                words = line.split()
                if len(words) < 2 or words[0] not in ("Collecting", "Downloading", "Installing"):
                    continue
                doing = " ".join(words[:2])
                if sys.stdout.isatty():
                    print("\r\033[K  " + doing[:100], end="", flush=True)
                elif time.monotonic() - shown > 20:
                    shown = time.monotonic()
                    say("... " + doing)
            failed = process.wait() != 0
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            if sys.stdout.isatty():
                print("\r\033[K", end="", flush=True)
    return (lines or ["pip said nothing."]) if failed else []


def advice(said):
    """What to do about pip's failure. Raises Hopeless where what is wanted cannot be had."""
    log = LOG.read_text()
    signs = ("name resolution", "NewConnection", "ConnectTimeout", "ReadTimeout", "ProxyError")
    if any(sign in log for sign in (*signs, "No matching distribution")):
        raise Hopeless(
            "The packages could not be had from PyPI: check the network, and pip's settings for proxy and index, then "
            f"call make again. The log is .venv/install.log. Its last words:\n{said}"
        )
    if "ResolutionImpossible" in log:  # pip says so too where an index does not have the pinned version
        raise Hopeless(
            "pip found no set of packages that fit together. Either its index lacks one that is pinned (pip config "
            "list), or one of the sourced ROS 2 or of the system stands against requirements/lock.txt; in a terminal "
            f"without ROS 2 none does. The log is .venv/install.log. Its last words:\n{said}"
        )
    if "No space left" in log:
        do = "The disk is full: free some space, then call make again."
    else:
        do = "The whole log is .venv/install.log; fix that, then call make again."
    return f"pip failed. {do} Its last words:\n{said}"


def check_result(kind):
    """Raises Failed where a ROS 2 package or ONNX Runtime cannot be imported from .venv."""
    environ = environment(kind)
    for package in (*ROS_PACKAGES, "numpy", "cv2", "onnxruntime"):
        if output_of([str(VENV_PYTHON), "-c", "import " + package], environ) is not None:
            continue
        if package in ROS_PACKAGES and kind["ros"]:
            do = f"Install it: sudo apt install ros-{os.environ['ROS_DISTRO']}-{package.replace('_', '-')}"
        else:
            do = f"Try: make clean, then the same again. To see why: .venv/bin/python -c 'import {package}'"
        raise Failed(f"{package} cannot be imported from .venv. {do}")


def prepare(what):
    """Makes .venv what it has to be, and returns its kind. What it had before stays."""
    check_python()
    # Two makes at once would install over each other; the lock goes with the process.
    lock = os.open(__file__, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("Waiting for another make that prepares .venv ...")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        wanted, found = wanted_note(what), noted()
        fits = found.get("kind") == wanted["kind"] and works()
        for part in ("everything", "viewer"):
            wanted[part] = wanted[part] or (fits and found.get(part, False))
        if fits and found == wanted:
            return wanted["kind"]
        check_ours()
        check_platform(wanted["kind"])
        if fits:
            say("What .venv needs has changed, or was not installed to its end.")
            try:
                install(wanted)
            except Hopeless:
                raise
            except Failed as error:
                say(f"{error}\n.venv seems damaged: making it again.")
                fits = False
        elif VENV.exists():
            say(".venv is not for this Python, ROS 2 and GPU, or was left half made: removing it ...")
        if not fits:
            make_venv(wanted["kind"])
            install(wanted)
        return wanted["kind"]
    finally:
        os.close(lock)


def environment(kind):
    """The environment variables for what runs in .venv."""
    environ = dict(os.environ)
    if not kind["ros"]:
        # LD_LIBRARY_PATH without a sourced ROS may be what finds the GPU's driver, so it stays.
        for name in ROS_VARIABLES:
            if name != "LD_LIBRARY_PATH" or "AMENT_PREFIX_PATH" in os.environ:
                environ.pop(name, None)
    # The first is left by another environment with ROS 2 from PyPI; this one has to find its own libraries.
    for name in ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONHOME", *PIP_VARIABLES):
        environ.pop(name, None)
    environ["VIRTUAL_ENV"] = str(VENV)
    environ["PATH"] = os.pathsep.join([str(VENV / "bin"), environ.get("PATH", os.defpath)])
    return environ


def main():
    what, command = sys.argv[1], sys.argv[2:]
    try:
        kind = prepare(what)
    except Failed as error:
        print("[environment] " + str(error), file=sys.stderr)
        return 1
    except OSError as error:
        print(f"[environment] .venv could not be prepared: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n[environment] Interrupted; the next make goes on from here.", file=sys.stderr)
        return 130
    environ = environment(kind)
    program = shutil.which(command[0], path=environ["PATH"])
    sys.stdout.flush()
    os.execve(program, command, environ)


if __name__ == "__main__":
    sys.exit(main())
