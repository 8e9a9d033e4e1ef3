"""Who a caller is: the format of gateway keys, and JSON Web Tokens. Used by `authenticate`, the directory and the admin plane."""
