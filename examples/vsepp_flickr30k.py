"""Train VSE++ on Flickr30K: ``vsepp_flickr30k.py --data DIR``. See docs/vsepp.md."""

from vsepp.commands import main

if __name__ == "__main__":
    main("flickr30k")
