"""VSE++ from data on disk to a table of results; start reading at ``train.py``."""

from importlib.util import find_spec

NEEDED = ("accelerate", "matplotlib", "PIL", "tqdm", "tyro")
if missing := [name for name in NEEDED if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"the trainer needs {', '.join(missing)}: pip install -e '.[vsepp]' in the checkout"
    )
