"""DVC's stages, one file each: `python -m stages.<verb>`."""

import os

from safety_tax.core.interrupt import is_being_started, stop_while_importing

# Bars are this project's own. Transformers and huggingface_hub read this when they are imported.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

if is_being_started():
    stop_while_importing()
