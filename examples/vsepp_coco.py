"""Train VSE++ on COCO; with no arguments, on scenes that the program draws itself. See
docs/vsepp.md.
"""

from vsepp.commands import main

if __name__ == "__main__":
    main("coco")
