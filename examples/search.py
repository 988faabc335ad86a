"""Look through what a trained model finds, in the browser: ``search.py RUN [RUN]``. See
docs/search.md.
"""

from vsepp_search.commands import main

if __name__ == "__main__":
    main()
