"""Stages, run as `python -m stages.<verb>`. Their imports take seconds, and Ctrl-C meets them too."""

import os
import signal
import sys

# Bars are this project's own. Transformers and huggingface_hub read this when they are imported.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
STOPPED = "Stopped by the keyboard; finished stages are kept, run `dvc repro` to go on."


def stop_at_once(number: int, frame: object) -> None:
    """Nothing is open yet that would have to be put away."""
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(130)


# Python says `-m` while it looks for the module that it is to run. A shell's background job ignores Ctrl-C: so be it.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, stop_at_once)
