"""The command line: `python -m relay ask`."""
