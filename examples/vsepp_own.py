"""Train on images and captions of your own: ``vsepp_own.py --data captions.csv``. See
docs/vsepp.md.
"""

from vsepp.commands import main

if __name__ == "__main__":
    main("own")
