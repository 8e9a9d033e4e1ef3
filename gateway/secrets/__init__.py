"""Secrets at rest: sealed and opened, master keys and their rotation, values kept in files. Used by the directory and the admin plane."""
