"""Write the repository's address into what a release shows elsewhere: ``python .github/release_addresses.py URL TAG``.

The page of a package index shows the README without the files beside it, so its links become absolute, to the files
of the tag; pyproject.toml gets the project's addresses. Run in the checkout that is built, and committed nowhere.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def with_absolute_links(readme: str, url: str, tag: str) -> str:
    """Links to files of the repository, pictures as the files themselves."""

    def absolute(found: re.Match[str]) -> str:
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}[{found[2]}]({url}/{kind}/{tag}/{found[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)", absolute, readme)


def addresses(url: str, tag: str) -> str:
    """The table of pyproject.toml."""
    lines = {
        "Repository": url,
        "Documentation": f"{url}/blob/{tag}/docs/index.md",
        "Changelog": f"{url}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{url}/issues",
    }
    return "\n[project.urls]\n" + "".join(f'{name} = "{at}"\n' for name, at in lines.items())


def main(root: Path, url: str, tag: str) -> None:
    """Change both files."""
    readme, project = root / "README.md", root / "pyproject.toml"
    readme.write_text(with_absolute_links(readme.read_text("utf-8"), url, tag), "utf-8")
    project.write_text(project.read_text("utf-8") + addresses(url, tag), "utf-8")


if __name__ == "__main__":
    main(ROOT, *sys.argv[1:])
