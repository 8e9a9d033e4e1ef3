"""The life of a process: wired from its settings, started, drained and stopped, with the servers embedded in it. Used by the command line alone."""
