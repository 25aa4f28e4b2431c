"""The main job: ``python jobs/demo.py [--data FOLDER] [--set KIND.PATH=VALUE]``, or ``make demo``."""

from clinical_modernbert.demo.run import main

if __name__ == "__main__":
    main()
