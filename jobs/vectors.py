"""Train vectors from the packaged MiniLM and show what they find, before and after. See docs/vectors.md; `make vectors` runs it.

python jobs/vectors.py [--data <folder with vocab/>] [--root URI] [--set path=value]
"""

from clinical_modernbert.demo.vectors import main

if __name__ == "__main__":
    main()
