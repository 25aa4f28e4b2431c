"""Run the main job, raw files to endpoint; `make demo` calls this. See docs/demo.md.

python jobs/demo.py [--data FOLDER] [--set KIND.PATH=VALUE]
"""

from clinical_modernbert.demo.run import main

if __name__ == "__main__":
    main()
