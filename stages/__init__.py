"""DVC's stages, one file each: `python -m stages.<verb>`."""

import os

from safety_tax.core.interrupt import is_being_started, stop_while_importing

# Bars are this project's own. Libraries read these when they are imported.
for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
    os.environ.setdefault(variable, "1")

if is_being_started():
    stop_while_importing()
