"""The commands of the command line that work through the admin API. Used by `__main__` alone."""
