"""Train VSE0 and VSE++ on Flickr8K: ``vsepp_flickr8k.py --data DIR``. See docs/vsepp.md."""

from vsepp.commands import main

if __name__ == "__main__":
    main("flickr8k")
