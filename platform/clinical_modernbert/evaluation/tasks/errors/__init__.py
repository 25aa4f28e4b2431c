"""Where runs go wrong, for each form of task; called by the modules of the task kinds."""
