"""What pyproject.toml cannot say: the files that `safety-tax init` begins a project with are in the wheel, too."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

STARTER = ("params.yaml", "dvc.yaml", ".dvcignore", ".gitignore")
OF_DVC = (".dvc/config", ".dvc/must_be_mappings.yaml", ".dvc/offline.html")
FOLDERS = ("data/prompts", "data/chat_templates")


class BuildWithStarter(build_py):
    """Copies them beside the library."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the library then lies in the checkout, which has them
        starter = Path(self.build_lib) / "safety_tax/starter"
        for name in (*STARTER, *OF_DVC):
            (starter / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, starter / name)
        for name in FOLDERS:
            shutil.copytree(name, starter / name, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithStarter})
