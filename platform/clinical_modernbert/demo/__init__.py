"""The main job: one line of data through every component, and one screen that tells what came out."""
