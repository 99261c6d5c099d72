"""Where Pinhole begins: readies the environment, then starts what was asked for; knows no feature.

    python entry.py [flags]                    the page in the browser; --help lists the flags
    python entry.py generate --prompt "..."    a picture without the page
    python entry.py plot --prompt "..." --x "seed=1-4"    a labelled grid of pictures, likewise
    python entry.py encode FILE                prompts are encoded ahead of time
    python entry.py download PRESET            the models a preset names are fetched
    python entry.py test [pytest arguments]    every check the project has

The first lines are written so that the oldest Python can read them and say what is wrong; hence no annotations here.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the point of these lines is to run where the rest cannot
    sys.stderr.write(
        "Pinhole needs Python 3.11 or newer and this is Python %d.%d (%s): install a newer one and start with it, "  # noqa: UP031
        "for example: python3.11 entry.py\n" % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
    sys.exit(2)

from os.path import abspath, dirname

from modules import environment

ROOT = dirname(abspath(__file__))


def main(argv):  # noqa: ANN001, ANN201
    # type: (list[str]) -> int
    """Run the command line `argv` (without the program's name) and return the exit code."""
    command = argv[0] if argv else ""
    if argv and command not in ("test", "generate", "plot", "encode", "download"):
        from modules import flags

        flags.parser().parse_args(argv)  # --help, and a misspelt flag, take no environment
    try:
        environment.enter(ROOT, "requirements-dev.txt" if command == "test" else "requirements.txt")
    except environment.SetupError as error:
        sys.stderr.write("%s\n" % error)  # noqa: UP031
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The next start carries on from here.\n")
        return 130
    if command == "test":
        from tests import checks

        return checks.main(argv[1:])
    if command in ("generate", "plot"):
        from modules import cli

        return cli.main(argv[1:], command=command)
    if command == "encode":
        from modules import encode

        return encode.main(argv[1:])
    if command == "download":
        from modules import download

        return download.main(argv[1:])
    return open_page(argv)


def open_page(argv):  # noqa: ANN001, ANN201
    # type: (list[str]) -> int
    """Serve the page; its port is taken before Gradio is loaded, which takes seconds. Returns the exit code."""
    import os
    from pathlib import Path

    from modules import flags

    try:
        settings, door = flags.read(Path(ROOT), argv, os.environ)
    except ValueError as error:  # SettingsError or AddressError, each with a sentence
        sys.stderr.write("%s\n" % error)  # noqa: UP031
        return 2
    import webui

    return webui.main(settings, door)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
