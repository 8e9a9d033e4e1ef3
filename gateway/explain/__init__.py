"""What the pipeline would do with a request, told without doing it. Used by the admin plane."""
