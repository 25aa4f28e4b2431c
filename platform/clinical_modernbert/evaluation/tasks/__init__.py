"""One module a task kind: how its files are read, run and measured."""
